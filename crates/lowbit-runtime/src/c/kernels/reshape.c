/* The same elements, counted channel by channel, in an image of other dimensions. */
typedef struct {
    int32_t pixels, channels, out_pixels, out_channels;
} Shapes;

static void reshape(const Shapes *s, const uint8_t *x, uint8_t *out)
{
    for (int32_t i = 0; i < s->pixels * s->channels; i++) {
        out[i % s->out_pixels * s->out_channels + i / s->out_pixels] = x[i % s->pixels * s->channels + i / s->pixels];
    }
}
