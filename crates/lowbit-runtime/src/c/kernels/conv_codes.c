/* How sums become codes: clamp(rint(sum * factor) + zero_point), then the table, then the sum with another image. */
typedef struct {
    int32_t zero_point, low, high;
    const uint8_t *table;
#ifdef SUMS
    const Sum *add;
    int32_t own_first;
#endif
} Codes;

static void conv_codes(const Conv *conv, const Codes *to, const uint8_t *x, const uint8_t *other, uint8_t *out)
{
    int32_t low = to->low - to->zero_point, high = to->high - to->zero_point;
    for (int32_t o = 0; o < conv->out_channels; o++) {
        const int8_t *w = weights_of(conv, o);
        const uint8_t *image = x + o / conv->group_outputs * conv->group_channels;
        int32_t at = o;
        for (int32_t row = 0; row < conv->out_height; row++) {
            for (int32_t column = 0; column < conv->out_width; column++) {
                int32_t sum = conv->bias[o] + conv_sum(conv, image, w, row, column);
                float value = (float)sum * conv->factors[o];
                int32_t code = rounded(value, low, high) + to->zero_point;
                if (to->table) {
                    code = to->table[code];
                }
#ifdef SUMS
                if (to->add) {
                    code = to->own_first ? added(to->add, code, other[at]) : added(to->add, other[at], code);
                }
#endif
                out[at] = (uint8_t)code;
                at += conv->out_channels;
            }
        }
    }
#ifndef SUMS
    (void)other;
#endif
}
