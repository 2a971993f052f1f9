/* Calls that a host gets wrong: each gives its status and a message, and none crashes. misuse MODEL.onnx */
#include <assert.h>
#include <stdio.h>
#include <string.h>
#include "optc.h"

#undef NDEBUG
static const size_t DIMS[] = {1, 1, 28, 28};
static float PIXELS[28 * 28];

static void fails(OptcStatus status, OptcStatus expected, const char *message) {
    if (status != expected || !strstr(optc_last_error(), message)) {
        fprintf(stderr, "status %d, expected %d: `%s`, expected `%s`\n", status, expected, optc_last_error(), message);
        assert(0);
    }
}

static OptcStatus set(OptcSession *session, size_t index, uint32_t dtype, size_t rank, size_t size) {
    return optc_session_set_input(session, index, dtype, DIMS, rank, (const uint8_t *)PIXELS, size);
}

static void compile_errors(const char *path) {
    OptcModel *model = NULL;
    fails(optc_compile_file(NULL, NULL, &model), OPTC_STATUS_USAGE, "`path` is null");
    fails(optc_compile_file(path, NULL, NULL), OPTC_STATUS_USAGE, "`model` is null");
    fails(optc_compile_file("no such file", NULL, &model), OPTC_STATUS_IO, "no such file");
    fails(optc_compile_file("\xff", NULL, &model), OPTC_STATUS_USAGE, "not UTF-8");
    fails(optc_compile_bytes(NULL, 3, NULL, &model), OPTC_STATUS_USAGE, "`bytes` is null");
    fails(optc_compile_bytes((const uint8_t *)"abc", 3, NULL, &model), OPTC_STATUS_BAD_MODEL, "");

    OptcOptions options = {0};
    fails(optc_compile_file(path, &options, &model), OPTC_STATUS_USAGE, "set it to sizeof(OptcOptions)");
    options.size = (size_t)-1;
    fails(optc_compile_file(path, &options, &model), OPTC_STATUS_USAGE, "set it to sizeof(OptcOptions)");
    options.size = sizeof options;
    options.passes = "no-such-pass";
    fails(optc_compile_file(path, &options, &model), OPTC_STATUS_USAGE, "no-such-pass");
    options.passes = NULL;
    options.isa = "z80";
    fails(optc_compile_file(path, &options, &model), OPTC_STATUS_USAGE, "z80");
    options.isa = NULL;
    OptcShape shape = {"nothing", DIMS, 4};
    options.shape_count = 1;
    fails(optc_compile_file(path, &options, &model), OPTC_STATUS_USAGE, "`shapes` is null");
    options.shapes = &shape;
    fails(optc_compile_file(path, &options, &model), OPTC_STATUS_USAGE, "nothing");
    assert(model == NULL);
}

/* Options of a header that is newer than the library: fine while what is new is left alone. */
static void options_that_grow(const char *path) {
    struct {
        OptcOptions known;
        size_t more;
    } options = {.known = {.size = sizeof options, .threads = 1}};
    OptcModel *model = NULL;
    assert(optc_compile_file(path, &options.known, &model) == OPTC_STATUS_OK);
    optc_model_free(model);
    options.more = 1;
    OptcStatus status = optc_compile_file(path, &options.known, &model);
    fails(status, OPTC_STATUS_USAGE, "this version of the library does not know");
}

static void names(const OptcModel *model) {
    size_t index = 7;
    assert(optc_model_find_input(model, "input", &index) == OPTC_STATUS_OK && index == 0);
    assert(optc_model_find_output(model, "logits", &index) == OPTC_STATUS_OK && index == 0);
    fails(optc_model_find_input(model, "logits", &index), OPTC_STATUS_USAGE, "no input `logits`; there are input");
    fails(optc_model_find_output(model, NULL, &index), OPTC_STATUS_USAGE, "`name` is null");
    fails(optc_model_find_output(model, "logits", NULL), OPTC_STATUS_USAGE, "`index` is null");
    fails(optc_model_find_input(NULL, "input", &index), OPTC_STATUS_USAGE, "`model` is null");
}

static void run_errors(OptcSession *session) {
    OptcTensor tensor;
    fails(optc_session_run(NULL), OPTC_STATUS_USAGE, "`session` is null");
    fails(optc_session_run(session), OPTC_STATUS_RUN, "`input` is missing");
    fails(optc_session_output(session, 0, &tensor), OPTC_STATUS_USAGE, "out of range");
    fails(set(session, 1, OPTC_DTYPE_F32, 4, sizeof PIXELS), OPTC_STATUS_USAGE, "out of range");
    fails(set(session, 0, 99, 4, sizeof PIXELS), OPTC_STATUS_USAGE, "no dtype 99");
    fails(set(session, 0, OPTC_DTYPE_STR, 4, 0), OPTC_STATUS_UNSUPPORTED, "strings");
    fails(set(session, 0, OPTC_DTYPE_F32, 4, 5), OPTC_STATUS_RUN, "");
    fails(set(session, 0, OPTC_DTYPE_F32, 3, sizeof PIXELS), OPTC_STATUS_RUN, "");
    const size_t huge[] = {(size_t)-1, (size_t)-1};
    fails(optc_session_set_input(session, 0, OPTC_DTYPE_F32, huge, 2, NULL, 0), OPTC_STATUS_RUN, "");
    fails(optc_session_set_input(session, 0, OPTC_DTYPE_F32, NULL, 4, NULL, 0), OPTC_STATUS_USAGE, "`dims` is null");

    assert(set(session, 0, OPTC_DTYPE_I32, 4, sizeof PIXELS) == OPTC_STATUS_OK);
    fails(optc_session_run(session), OPTC_STATUS_RUN, "i32");
    assert(set(session, 0, OPTC_DTYPE_F32, 4, sizeof PIXELS) == OPTC_STATUS_OK);
    assert(optc_session_run(session) == OPTC_STATUS_OK);
    fails(optc_session_output(session, 0, NULL), OPTC_STATUS_USAGE, "`tensor` is null");
    fails(optc_session_output(session, 1, &tensor), OPTC_STATUS_USAGE, "out of range");
    assert(optc_session_output(session, 0, &tensor) == OPTC_STATUS_OK);
    assert(tensor.dtype == OPTC_DTYPE_F32 && tensor.rank == 2 && tensor.dims[0] == 1 && tensor.dims[1] == 10);
    assert(tensor.size == 10 * sizeof(float));
}

int main(int argc, char **argv) {
    if (argc != 2) return 2;
    assert(strlen(optc_version()) > 0 && strlen(optc_last_error()) == 0);
    compile_errors(argv[1]);
    options_that_grow(argv[1]);

    OptcModel *model;
    OptcPort port;
    OptcSession *session;
    OptcOptions options = {.size = sizeof(OptcOptions), .threads = 2, .passes = "O1"};
    assert(optc_compile_file(argv[1], &options, &model) == OPTC_STATUS_OK);
    assert(optc_model_input_count(model) == 1 && optc_model_output_count(model) == 1);
    assert(optc_model_input_count(NULL) == 0 && optc_model_output_count(NULL) == 0);
    assert(optc_model_input(model, 0, &port) == OPTC_STATUS_OK);
    assert(!strcmp(port.name, "input") && port.dtype == OPTC_DTYPE_F32 && port.rank == 4);
    assert(port.dims[0] == -1 && port.dims[1] == 1 && port.dims[2] == 28 && port.dims[3] == 28);
    fails(optc_model_input(model, 1, &port), OPTC_STATUS_USAGE, "out of range");
    fails(optc_model_output(NULL, 0, &port), OPTC_STATUS_USAGE, "`model` is null");
    fails(optc_model_output(model, 0, NULL), OPTC_STATUS_USAGE, "`port` is null");
    fails(optc_session_new(NULL, &session), OPTC_STATUS_USAGE, "`model` is null");
    fails(optc_session_new(model, NULL), OPTC_STATUS_USAGE, "`session` is null");

    names(model);
    assert(optc_session_new(model, &session) == OPTC_STATUS_OK);
    optc_model_free(model); /* the session keeps what it needs */
    run_errors(session);
    optc_session_free(session);
    optc_session_free(NULL);
    optc_model_free(NULL);
    return 0;
}
