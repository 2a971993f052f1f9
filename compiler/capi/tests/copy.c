/* A model whose file is cut off while it is in use, as the option `copy` allows. copy MODEL.onnx; the file is lost. */
#include <assert.h>
#include <stdio.h>
#include "optc.h"

#undef NDEBUG
static const size_t DIMS[] = {1, 1, 28, 28};
static float PIXELS[28 * 28];

int main(int argc, char **argv) {
    if (argc != 2) return 2;
    OptcModel *model;
    OptcSession *session;
    OptcTensor tensor;
    OptcOptions options = {.size = sizeof(OptcOptions), .threads = 1, .copy = 1};
    assert(optc_compile_file(argv[1], &options, &model) == OPTC_STATUS_OK);
    FILE *file = fopen(argv[1], "w"); /* in place: a model that is mapped would end the process */
    assert(file && fclose(file) == 0);
    assert(optc_session_new(model, &session) == OPTC_STATUS_OK);
    const uint8_t *pixels = (const uint8_t *)PIXELS;
    assert(optc_session_set_input(session, 0, OPTC_DTYPE_F32, DIMS, 4, pixels, sizeof PIXELS) == OPTC_STATUS_OK);
    assert(optc_session_run(session) == OPTC_STATUS_OK);
    assert(optc_session_output(session, 0, &tensor) == OPTC_STATUS_OK && tensor.size == 10 * sizeof(float));
    optc_session_free(session);
    optc_model_free(model);
    return 0;
}
