/* The weights of one output, unpacked into the end of the arena where they are indices: lowest bits first, and each
   output begins with a new byte. */
static const int8_t *weights_of(const Conv *conv, int32_t output)
{
    int8_t *row = (int8_t *)arena + ROW;
    const uint8_t *packed = conv->weights;
    uint8_t mask = (uint8_t)((1 << conv->bits) - 1);
    if (conv->bits == 8) {
        return (const int8_t *)conv->weights + output * conv->taps;
    }
    packed += output * ((conv->taps * conv->bits + 7) / 8);
    for (int32_t i = 0; i < conv->taps; i++) {
        int32_t bit = i * conv->bits;
        row[i] = conv->levels[(packed[bit >> 3] >> (bit & 7)) & mask];
    }
    return row;
}
