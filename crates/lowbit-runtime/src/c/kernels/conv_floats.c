static void conv_floats(const Conv *conv, const uint8_t *x, float *out)
{
    for (int32_t o = 0; o < conv->out_channels; o++) {
        const int8_t *w = weights_of(conv, o);
        out[o] = (float)(conv->bias[o] + conv_sum(conv, x, w, 0, 0)) * conv->factors[o];
    }
}
