/* (code - zero) * scale, plane by plane; each is 1 where channels have their own scales, else 0. */
typedef struct {
    int32_t pixels, channels, each;
    const float *scale;
    const int32_t *zero;
} Floats;

static void dequantize(const Floats *how, const uint8_t *x, float *out)
{
    for (int32_t c = 0; c < how->channels; c++) {
        for (int32_t i = 0; i < how->pixels; i++) {
            *out++ = (float)(x[i * how->channels + c] - how->zero[c * how->each]) * how->scale[c * how->each];
        }
    }
}
