/* The channels of an image into those of a wider one (row bytes a pixel), through a table where there is one. */
static void copy_channels(const uint8_t *x, int32_t channels, const uint8_t *table, uint8_t *out, int32_t count, int32_t row)
{
    for (int32_t i = 0; i < count; i++) {
        uint8_t code = x[i];
        out[i / channels * row + i % channels] = table ? table[code] : code;
    }
}
