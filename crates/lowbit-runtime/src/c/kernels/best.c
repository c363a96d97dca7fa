/* The first of the highest scores. */
static int best(const float *scores, int32_t count)
{
    int32_t at = 0;
    for (int32_t i = 1; i < count; i++) {
        at = scores[i] > scores[at] ? i : at;
    }
    return (int)at;
}
