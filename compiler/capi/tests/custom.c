/* A custom op of this program: y = factor * x + x * x, of a vector of any length. custom MODEL.onnx. */
#include <assert.h>
#include <stdio.h>
#include <string.h>
#include "optc.h"

#undef NDEBUG

static int infer(void *state, OptcCall *call) {
    (void)state;
    OptcOperand x;
    const char *mode;
    if (optc_call_operand_count(call) != 1 || optc_call_operand(call, 0, &x) != OPTC_STATUS_OK) return 1;
    if (x.dtype != OPTC_DTYPE_F32) return optc_call_fail(call, "expected float32"), 1;
    assert(optc_call_string(call, "mode", &mode) == OPTC_STATUS_OK && strcmp(mode, "square") == 0);
    return optc_call_declare(call, 0, OPTC_DTYPE_F32, x.dims, x.rank);
}

static int eval(void *state, OptcCall *call) {
    OptcOperand x;
    OptcTensor list;
    float factor = 1, missing = 7;
    int64_t times;
    uint8_t *data;
    ++*(int *)state;
    assert(optc_call_operand(call, 0, &x) == OPTC_STATUS_OK && x.rank == 1 && x.data);
    assert(optc_call_float(call, "factor", &factor) == OPTC_STATUS_OK);
    assert(optc_call_float(call, "missing", &missing) == OPTC_STATUS_USAGE && missing == 7);
    assert(optc_call_int(call, "times", &times) == OPTC_STATUS_OK && times == 2);
    assert(optc_call_tensor(call, "list", &list) == OPTC_STATUS_OK && list.dims[0] == 2);
    assert(((const int64_t *)list.data)[1] == 5);
    const size_t dims[] = {(size_t)x.dims[0]};
    if (optc_call_result(call, 0, OPTC_DTYPE_F32, dims, 1, &data) != OPTC_STATUS_OK) return 1;
    for (size_t i = 0; i < dims[0]; ++i) {
        const float v = ((const float *)x.data)[i];
        ((float *)data)[i] = factor * v + v * v;
    }
    return 0;
}

int main(int argc, char **argv) {
    if (argc != 2) return 2;
    int evaluations = 0;
    OptcModel *model;
    OptcSession *session;
    OptcTensor tensor;
    const float x[] = {2, 4, 6};
    const size_t dims[] = {3};
    assert(optc_compile_file(argv[1], NULL, &model) == OPTC_STATUS_UNSUPPORTED);
    assert(strstr(optc_last_error(), "Polynomial"));
    assert(optc_register_op("com.example", "Polynomial", infer, NULL, &evaluations) == OPTC_STATUS_USAGE);
    assert(optc_register_op("com.example", "Polynomial", infer, eval, &evaluations) == OPTC_STATUS_OK);
    assert(optc_register_op("com.example", "Polynomial", infer, eval, &evaluations) == OPTC_STATUS_USAGE);
    assert(optc_compile_file(argv[1], NULL, &model) == OPTC_STATUS_OK);
    assert(optc_session_new(model, &session) == OPTC_STATUS_OK);
    assert(optc_session_set_seed(session, 3) == OPTC_STATUS_OK);
    const uint8_t *bytes = (const uint8_t *)x;
    assert(optc_session_set_input(session, 0, OPTC_DTYPE_F32, dims, 1, bytes, sizeof x) == OPTC_STATUS_OK);
    assert(optc_session_run(session) == OPTC_STATUS_OK && evaluations == 1);
    assert(optc_session_output(session, 0, &tensor) == OPTC_STATUS_OK && tensor.size == sizeof x);
    const float *y = (const float *)tensor.data;
    printf("%g %g %g\n", y[0], y[1], y[2]);
    optc_session_free(session);
    optc_model_free(model);
    return 0;
}
