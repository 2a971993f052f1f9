/* An artifact with machine code, which the option `trust` runs. trust MODEL.optc prints what it makes of a black
 * picture, twice: compiled from its graph, and by the machine code. */
#include <assert.h>
#include <stdio.h>
#include <string.h>
#include "optc.h"

#undef NDEBUG
static const size_t DIMS[] = {1, 1, 28, 28};
static float PIXELS[28 * 28];

static void print(const char *path, int trust) {
    OptcModel *model;
    OptcSession *session;
    OptcTensor tensor;
    OptcOptions options = {.size = sizeof(OptcOptions), .threads = 1, .trust = trust};
    assert(optc_compile_file(path, &options, &model) == OPTC_STATUS_OK);
    assert(optc_session_new(model, &session) == OPTC_STATUS_OK);
    const uint8_t *pixels = (const uint8_t *)PIXELS;
    assert(optc_session_set_input(session, 0, OPTC_DTYPE_F32, DIMS, 4, pixels, sizeof PIXELS) == OPTC_STATUS_OK);
    assert(optc_session_run(session) == OPTC_STATUS_OK);
    assert(optc_session_output(session, 0, &tensor) == OPTC_STATUS_OK && tensor.size == 10 * sizeof(float));
    float logits[10];
    memcpy(logits, tensor.data, sizeof logits);
    for (size_t i = 0; i < 10; i++) printf("%.9g%c", logits[i], i < 9 ? ' ' : '\n');
    optc_session_free(session);
    optc_model_free(model);
}

int main(int argc, char **argv) {
    if (argc != 2) return 2;
    print(argv[1], 0);
    print(argv[1], 1);
    return 0;
}
