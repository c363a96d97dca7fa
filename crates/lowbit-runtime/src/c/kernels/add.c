static void add(const Sum *sum, const uint8_t *a, const uint8_t *b, uint8_t *out, int32_t count)
{
    for (int32_t i = 0; i < count; i++) {
        out[i] = (uint8_t)added(sum, a[i], b[i]);
    }
}
