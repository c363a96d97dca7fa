/* a * b + c, rounded once. Where the processor has no such instruction: in double the product is exact, and rounding
   the sum twice goes wrong only if the first time it comes to lie halfway between two floats. Then it is moved towards
   what was lost. */
static float fused(float a, float b, float c)
{
#if defined(__ARM_FEATURE_FMA) || defined(__FMA__)
    return __builtin_fmaf(a, b, c);
#else
    double product = (double)a * (double)b, sum = product + (double)c;
    uint64_t bits;
    memcpy(&bits, &sum, sizeof bits);
    if ((bits & 0x1fffffff) == 0x10000000) {
        double part = sum - product;
        double lost = (product - (sum - part)) + ((double)c - part);
        if (lost != 0.0) {
            bits = (lost > 0.0) == (sum > 0.0) ? bits + 1 : bits - 1;
            memcpy(&sum, &bits, sizeof sum);
        }
    }
    return (float)sum;
#endif
}

/* The sum of two images' codes: rint(fma(a, ratio[0], fma(b, ratio[1], fixed))) on the model's own codes. */
typedef struct {
    float ratio[2];
    float fixed;
    int32_t offset; /* what was added to the model's codes */
} Sum;

static int32_t added(const Sum *sum, int32_t a, int32_t b)
{
    float second = fused((float)(b - sum->offset), sum->ratio[1], sum->fixed);
    float value = fused((float)(a - sum->offset), sum->ratio[0], second);
    return rounded(value, -sum->offset, 255 - sum->offset) + sum->offset;
}
