/* The element at i along rows, columns and channels is that at start + i * step, or fill outside the image. */
typedef struct {
    int32_t extent[3], out[3], start[3], step[3];
    uint8_t fill;
} Sample;

static void sample(const Sample *how, const uint8_t *x, uint8_t *out)
{
    for (int32_t at = 0; at < how->out[0] * how->out[1] * how->out[2]; at++) {
        int32_t place[3], from = 0, inside = 1;
        place[0] = at / how->out[2] / how->out[1];
        place[1] = at / how->out[2] % how->out[1];
        place[2] = at % how->out[2];
        for (int32_t axis = 0; axis < 3; axis++) {
            int32_t i = how->start[axis] + place[axis] * how->step[axis];
            inside = inside && i >= 0 && i < how->extent[axis];
            from = from * how->extent[axis] + i;
        }
        out[at] = inside ? x[from] : how->fill;
    }
}
