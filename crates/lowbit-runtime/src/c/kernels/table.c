/* A function of each code; with channels, each channel has its own table. */
static void look_up(const uint8_t *tables, const uint8_t *x, uint8_t *out, int32_t count, int32_t channels)
{
    for (int32_t i = 0; i < count; i++) {
        out[i] = tables[i % channels * 256 + x[i]];
    }
}
