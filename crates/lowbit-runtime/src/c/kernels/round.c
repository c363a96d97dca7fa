/* The value between low and high, which are integers, rounded half to even: a sum with 1.5 * 2^23 has no bits for a
   fraction. A product is clamped before it meets a sum, so that no compiler may fuse the two. */
static int32_t rounded(float value, int32_t low, int32_t high)
{
    float raised = value > (float)low ? value : (float)low;
    float clamped = raised < (float)high ? raised : (float)high;
    float sum = clamped + 12582912.0f;
    return (int32_t)sum - 12582912;
}
