/* A convolution, or a fully connected layer as one of a single pixel. Images lie row by row, pixel by pixel, channel
   by channel; weights too, one output after the other. */
typedef struct {
    int32_t height, width, channels;
    int32_t out_height, out_width, out_channels;
    int32_t kernel_height, kernel_width;
    int32_t stride_y, stride_x;
    int32_t dilation_y, dilation_x;
    int32_t pad_y, pad_x;
    int32_t group_channels, group_outputs;
    int32_t taps;       /* weights of one output */
    int32_t zero_point; /* of the codes that are read */
    int32_t bits;       /* of a weight: 8, or those of an index into levels */
    const int8_t *levels;
    const void *weights;
    const int32_t *bias;
    const float *factors; /* of the sum, for each output */
} Conv;
