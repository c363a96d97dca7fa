/* rint((a - zero[0]) * (b - zero[1]) * ratio + zero[2]) on the model's codes; b repeats after period codes. */
typedef struct {
    int32_t zero[3];
    float ratio;
    int32_t offset; /* what was added to the model's codes */
    int32_t period;
} Product;

static void multiply(const Product *how, const uint8_t *a, const uint8_t *b, uint8_t *out, int32_t count)
{
    for (int32_t i = 0; i < count; i++) {
        int32_t left = a[i] - how->offset - how->zero[0];
        int32_t right = b[i % how->period] - how->offset - how->zero[1];
        float product = (float)(left * right) * how->ratio;
        /* Beyond 1024 every code is the last one; a product that is clamped cannot be fused with the sum. */
        float raised = product > -1024.0f ? product : -1024.0f;
        float clamped = raised < 1024.0f ? raised : 1024.0f;
        float value = clamped + (float)how->zero[2];
        out[i] = (uint8_t)(rounded(value, -how->offset, 255 - how->offset) + how->offset);
    }
}
