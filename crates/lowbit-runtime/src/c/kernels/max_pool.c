static void max_pool(const Window *w, const uint8_t *x, uint8_t *out)
{
    for (int32_t at = 0; at < w->out_height * w->out_width; at++, out += w->channels) {
        int32_t top = at / w->out_width * w->stride_y - w->pad_y, left = at % w->out_width * w->stride_x - w->pad_x;
        memset(out, 0, (size_t)w->channels);
        for (int32_t tap = 0; tap < w->kernel_height * w->kernel_width; tap++) {
            int32_t row = top + tap / w->kernel_width * w->dilation_y;
            int32_t column = left + tap % w->kernel_width * w->dilation_x;
            if (row < 0 || row >= w->height || column < 0 || column >= w->width) {
                continue;
            }
            for (int32_t c = 0; c < w->channels; c++) {
                uint8_t code = x[(row * w->width + column) * w->channels + c];
                out[c] = code > out[c] ? code : out[c];
            }
        }
    }
}
