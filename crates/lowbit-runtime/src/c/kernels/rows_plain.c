/* The weights of one output. */
static const int8_t *weights_of(const Conv *conv, int32_t output)
{
    return (const int8_t *)conv->weights + output * conv->taps;
}
