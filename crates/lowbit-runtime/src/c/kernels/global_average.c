/* rint((sum - pixels * zero[0]) * factor) + zero[1] of each channel, on the model's codes. */
typedef struct {
    int32_t pixels, channels;
    int32_t zero[2];
    float factor;
    int32_t offset; /* what was added to the model's codes */
} Average;

static void global_average(const Average *how, const uint8_t *x, uint8_t *out)
{
    int32_t low = -how->offset - how->zero[1];
    for (int32_t c = 0; c < how->channels; c++) {
        int32_t sum = -how->pixels * (how->zero[0] + how->offset);
        for (int32_t i = 0; i < how->pixels; i++) {
            sum += x[i * how->channels + c];
        }
        out[c] = (uint8_t)(rounded((float)sum * how->factor, low, low + 255) - low);
    }
}
