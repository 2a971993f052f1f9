/* Names what a picture of 28x28 grey pixels shows: classify MODEL.onnx PICTURE.pgm
 *
 *     cc -Icompiler/capi/include compiler/capi/examples/classify.c -Ltarget/release -loptc -o target/classify
 */
#include <stdio.h>
#include "optc.h"

static const char *CLASSES[] = {"T-shirt/top", "trouser", "pullover", "dress", "coat",
                                "sandal", "shirt", "sneaker", "bag", "ankle boot"};

static int failed(OptcStatus status) {
    if (status != OPTC_STATUS_OK) fprintf(stderr, "classify: %s\n", optc_last_error());
    return status != OPTC_STATUS_OK;
}

int main(int argc, char **argv) {
    unsigned char pixels[28 * 28];
    float input[28 * 28];
    FILE *file = argc == 3 ? fopen(argv[2], "rb") : NULL;
    if (!file || fscanf(file, "P5 28 28 255%*c") == EOF || fread(pixels, 1, sizeof pixels, file) != sizeof pixels)
        return fprintf(stderr, "usage: classify MODEL.onnx PICTURE.pgm (28x28)\n"), 2;
    fclose(file);
    for (int i = 0; i < 28 * 28; i++) input[i] = (pixels[i] / 255.0f - 0.2860f) / 0.3530f;

    OptcModel *model;
    OptcSession *session;
    OptcStatus status = optc_compile_file(argv[1], NULL, &model);
    if (failed(status)) return status;
    if (failed(status = optc_session_new(model, &session))) return status;

    const size_t dims[] = {1, 1, 28, 28};
    OptcTensor logits;
    status = optc_session_set_input(session, 0, OPTC_DTYPE_F32, dims, 4, (const uint8_t *)input, sizeof input);
    if (failed(status) || failed(status = optc_session_run(session))) return status;
    if (failed(status = optc_session_output(session, 0, &logits))) return status;

    const float *scores = (const float *)logits.data;
    int best = 0;
    for (int i = 1; i < 10; i++) best = scores[i] > scores[best] ? i : best;
    printf("%s\n", CLASSES[best]);
    optc_session_free(session);
    optc_model_free(model);
    return 0;
}
