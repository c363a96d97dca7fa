/* The mean of values (what the codes mean), summed row by row, over scale, plus the zero point, rounded. Taps from
   first to end count, in rows and columns of the image; those outside it add nothing. */
typedef struct {
    Window window;
    int32_t first[2], end[2];
    const float *values;
    float scale;
    int32_t zero_point, offset;
} Mean;

static uint8_t mean_of(const Mean *mean, const uint8_t *x, int32_t top, int32_t left)
{
    const Window *w = &mean->window;
    int32_t count = 0;
    float sum = 0.0f, value;
    for (int32_t tap = 0; tap < w->kernel_height * w->kernel_width; tap++) {
        int32_t row = top + tap / w->kernel_width * w->dilation_y;
        int32_t column = left + tap % w->kernel_width * w->dilation_x;
        count += row >= mean->first[0] && row < mean->end[0] && column >= mean->first[1] && column < mean->end[1];
        if (row >= 0 && row < w->height && column >= 0 && column < w->width) {
            sum += mean->values[x[(row * w->width + column) * w->channels]];
        }
    }
    value = sum / (float)count / mean->scale + (float)mean->zero_point;
    return (uint8_t)(rounded(value, -mean->offset, 255 - mean->offset) + mean->offset);
}

static void average_pool(const Mean *mean, const uint8_t *x, uint8_t *out)
{
    const Window *w = &mean->window;
    for (int32_t at = 0; at < w->out_height * w->out_width; at++) {
        int32_t top = at / w->out_width * w->stride_y - w->pad_y, left = at % w->out_width * w->stride_x - w->pad_x;
        for (int32_t c = 0; c < w->channels; c++) {
            *out++ = mean_of(mean, x + c, top, left);
        }
    }
}
