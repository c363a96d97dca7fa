#ifdef __ARM_FEATURE_SIMD32
#include <arm_acle.h>

/* The sum of (x - zero_point) * w: four at a time, in pairs of 16 bits. */
static int32_t dot(const uint8_t *x, const int8_t *w, int32_t zero_point, int32_t count)
{
    int16x2_t zeros = zero_point * 0x10001;
    int32_t sum = 0;
    for (; count >= 4; count -= 4, x += 4, w += 4) {
        uint32_t codes, weights;
        memcpy(&codes, x, sizeof codes);
        memcpy(&weights, w, sizeof weights);
        sum = __smlad(__ssub16((int16x2_t)__uxtb16(codes), zeros), __sxtb16((int8x4_t)weights), sum);
        codes = codes >> 8 | codes << 24;
        weights = weights >> 8 | weights << 24;
        sum = __smlad(__ssub16((int16x2_t)__uxtb16(codes), zeros), __sxtb16((int8x4_t)weights), sum);
    }
    for (; count > 0; count--) {
        sum += (*x++ - zero_point) * *w++;
    }
    return sum;
}
#else
/* The sum of (x - zero_point) * w. */
static int32_t dot(const uint8_t *x, const int8_t *w, int32_t zero_point, int32_t count)
{
    int32_t sum = 0;
    for (int32_t i = 0; i < count; i++) {
        sum += (x[i] - zero_point) * w[i];
    }
    return sum;
}
#endif

/* The sum of one output at row y and column x: taps outside the image count nothing. Where neighbouring taps lie side
   by side in memory, those of a row are one run. */
static int32_t conv_sum(const Conv *conv, const uint8_t *image, const int8_t *w, int32_t y, int32_t x)
{
    int32_t top = y * conv->stride_y - conv->pad_y, left = x * conv->stride_x - conv->pad_x;
    int32_t d = conv->dilation_x, size = conv->group_channels, sum = 0;
    int32_t first = left < 0 ? (d - 1 - left) / d : 0;
    int32_t end = left < conv->width ? (conv->width - left + d - 1) / d : 0;
    int32_t run = 1;
    end = end < conv->kernel_width ? end : conv->kernel_width;
    if (d == 1 && size == conv->channels && end > first) {
        run = end - first;
    }
    for (int32_t i = 0; i < conv->kernel_height; i++) {
        int32_t row = top + i * conv->dilation_y;
        if (row < 0 || row >= conv->height) {
            continue;
        }
        for (int32_t j = first; j < end; j += run) {
            const uint8_t *from = image + (row * conv->width + left + j * d) * conv->channels;
            sum += dot(from, w + (i * conv->kernel_width + j) * size, conv->zero_point, run * size);
        }
    }
    return sum;
}
