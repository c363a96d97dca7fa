/* Floats to codes: clamp(rint(x / scale) + zero); each is 1 where channels have their own scales, else 0. */
typedef struct {
    int32_t pixels, channels, each;
    int32_t planes; /* whether the floats lie channel by channel, not pixel by pixel */
    const float *scale;
    const int32_t *zero;
} Input;

static void quantize(const Input *how, const float *x, uint8_t *out)
{
    for (int32_t i = 0; i < how->pixels; i++) {
        for (int32_t c = 0; c < how->channels; c++) {
            int32_t at = how->planes ? c * how->pixels + i : i * how->channels + c;
            int32_t zero = how->zero[c * how->each];
            float value = x[at] / how->scale[c * how->each];
            *out++ = (uint8_t)(rounded(value, -zero, 255 - zero) + zero);
        }
    }
}
