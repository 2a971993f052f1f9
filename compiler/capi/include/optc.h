/*
 * optc: compiles and runs ONNX models.
 *
 * Written by cbindgen from compiler/capi/src; a test keeps it up to date.
 *
 * Rules that hold for every function:
 * - A function that can fail returns an OptcStatus. Anything but OPTC_STATUS_OK leaves its results unset, and
 *   optc_last_error() of the same thread says what is wrong.
 * - A null pointer where one is not allowed is OPTC_STATUS_USAGE, never a crash. Pointers must otherwise be valid.
 * - What a function named `..._new` or `optc_compile_...` gives belongs to the caller, who frees it with the matching
 *   `..._free`. All other pointers are borrowed; each function says how long they are good.
 * - `size` of a struct of options is its sizeof: hosts and libraries of different versions understand each other.
 * - A model can be used by many threads at once. A session is used by one thread at a time, but not always the same
 *   one.
 */

#ifndef OPTC_H
#define OPTC_H

#include <stdarg.h>
#include <stdbool.h>
#include <stddef.h>
#include <stdint.h>
#include <stdlib.h>

/**
 * How a call ended. The numbers are the exit codes of the command `optc`.
 */
typedef enum OptcStatus {
    /**
     * All went well.
     */
    OPTC_STATUS_OK = 0,
    /**
     * An argument is wrong: a null pointer, an index without an input, an unknown pass or instruction set.
     */
    OPTC_STATUS_USAGE = 2,
    /**
     * The model or artifact is not valid.
     */
    OPTC_STATUS_BAD_MODEL = 3,
    /**
     * The model is valid, but uses what is not supported.
     */
    OPTC_STATUS_UNSUPPORTED = 4,
    /**
     * A pass or the code generator failed.
     */
    OPTC_STATUS_COMPILE = 5,
    /**
     * Inputs do not fit, or a run failed.
     */
    OPTC_STATUS_RUN = 6,
    /**
     * A file could not be read.
     */
    OPTC_STATUS_IO = 7,
    /**
     * A bug in optc: a panic that was caught.
     */
    OPTC_STATUS_INTERNAL = 101,
} OptcStatus;

/**
 * The type of one element of a tensor.
 */
typedef enum OptcDtype {
    /**
     * Not a tensor: a sequence or an optional, which this interface does not carry.
     */
    OPTC_DTYPE_NONE = 0,
    /**
     * IEEE 754 binary32: `float`.
     */
    OPTC_DTYPE_F32 = 1,
    /**
     * IEEE 754 binary64: `double`.
     */
    OPTC_DTYPE_F64 = 2,
    /**
     * IEEE 754 binary16.
     */
    OPTC_DTYPE_F16 = 3,
    /**
     * The upper half of binary32.
     */
    OPTC_DTYPE_BF16 = 4,
    /**
     * `int8_t`.
     */
    OPTC_DTYPE_I8 = 5,
    /**
     * `int16_t`.
     */
    OPTC_DTYPE_I16 = 6,
    /**
     * `int32_t`.
     */
    OPTC_DTYPE_I32 = 7,
    /**
     * `int64_t`.
     */
    OPTC_DTYPE_I64 = 8,
    /**
     * `uint8_t`.
     */
    OPTC_DTYPE_U8 = 9,
    /**
     * `uint16_t`.
     */
    OPTC_DTYPE_U16 = 10,
    /**
     * `uint32_t`.
     */
    OPTC_DTYPE_U32 = 11,
    /**
     * `uint64_t`.
     */
    OPTC_DTYPE_U64 = 12,
    /**
     * One byte, 0 or 1.
     */
    OPTC_DTYPE_BOOL = 13,
    /**
     * Signed 4-bit integers, two a byte, low half first.
     */
    OPTC_DTYPE_I4 = 14,
    /**
     * Unsigned 4-bit integers, two a byte, low half first.
     */
    OPTC_DTYPE_U4 = 15,
    /**
     * Strings, which this interface does not carry.
     */
    OPTC_DTYPE_STR = 16,
    /**
     * Signed 2-bit integers, four a byte, lowest bits first.
     */
    OPTC_DTYPE_I2 = 17,
    /**
     * Unsigned 2-bit integers, four a byte, lowest bits first.
     */
    OPTC_DTYPE_U2 = 18,
    /**
     * Floats of 4 bits of exponent and 3 of mantissa, one a byte.
     */
    OPTC_DTYPE_F8E4M3FN = 19,
    /**
     * As `F8E4M3FN`, with one NaN in the place of negative zero.
     */
    OPTC_DTYPE_F8E4M3FNUZ = 20,
    /**
     * Floats of 5 bits of exponent and 2 of mantissa, one a byte.
     */
    OPTC_DTYPE_F8E5M2 = 21,
    /**
     * As `F8E5M2`, with one NaN in the place of negative zero, and no infinity.
     */
    OPTC_DTYPE_F8E5M2FNUZ = 22,
    /**
     * Powers of two, one a byte.
     */
    OPTC_DTYPE_F8E8M0FNU = 23,
    /**
     * Floats of 2 bits of exponent and 1 of mantissa, two a byte, low half first.
     */
    OPTC_DTYPE_F4E2M1FN = 24,
} OptcDtype;

/**
 * A call of a custom op, which its functions ask for operands and attributes and tell their results. Good until the
 * function returns, and all that it gives with it.
 */
typedef struct OptcCall OptcCall;

/**
 * A compiled model.
 */
typedef struct OptcModel OptcModel;

/**
 * What one thread at a time runs a model with.
 */
typedef struct OptcSession OptcSession;

/**
 * A function of a custom op: says the types of the results of a call, or computes them. 0 means that it did; what
 * `optc_call_fail` was told says why it did not. Any thread may call it, several at a time.
 */
typedef int (*OptcCustomFn)(void *state, struct OptcCall *call);

/**
 * An operand of a call.
 */
typedef struct OptcOperand {
    /**
     * Its element type; `OPTC_DTYPE_NONE` where it is absent or not a tensor.
     */
    enum OptcDtype dtype;
    /**
     * How many dims it has; -1 where that is not known yet.
     */
    int64_t rank;
    /**
     * The dims, `rank` of them, -1 for those that are not known yet.
     */
    const int64_t *dims;
    /**
     * The elements, row-major, in `size` bytes; null where they are not known yet.
     */
    const uint8_t *data;
    /**
     * How many bytes there are.
     */
    size_t size;
} OptcOperand;

/**
 * A tensor that a session holds. The pointers are borrowed from the session.
 */
typedef struct OptcTensor {
    /**
     * Its element type.
     */
    enum OptcDtype dtype;
    /**
     * How many dims it has.
     */
    size_t rank;
    /**
     * The dims, `rank` of them.
     */
    const size_t *dims;
    /**
     * The elements, row-major, in `size` bytes.
     */
    const uint8_t *data;
    /**
     * How many bytes there are.
     */
    size_t size;
} OptcTensor;

/**
 * The shape that an input with open dims is to have.
 */
typedef struct OptcShape {
    /**
     * The input's name.
     */
    const char *input;
    /**
     * Its dims, `rank` of them; may be null where `rank` is 0.
     */
    const size_t *dims;
    /**
     * How many dims it has.
     */
    size_t rank;
} OptcShape;

/**
 * How a model is compiled and run. All zeros are the defaults, but for `size` and `threads`.
 */
typedef struct OptcOptions {
    /**
     * `sizeof(OptcOptions)` where the host was compiled. A library that knows more options takes the defaults for
     * those; one that knows fewer refuses those that it does not know, unless they are zeros.
     */
    size_t size;
    /**
     * Threads that run the model; 0 for as many as the machine has cores.
     */
    size_t threads;
    /**
     * The pipeline: a named one (`O0` to `O3`) or a list of passes; null for `O2`.
     */
    const char *passes;
    /**
     * The instruction set; null for the best that the machine has.
     */
    const char *isa;
    /**
     * Shapes of inputs whose dims the model leaves open, `shape_count` of them; may be null where that is 0.
     */
    const struct OptcShape *shapes;
    /**
     * How many shapes there are.
     */
    size_t shape_count;
    /**
     * Bytes that the model and its runs may have in use; 0 for what the machine has. What does not fit is an error.
     */
    size_t memory_limit;
    /**
     * Milliseconds after which a run is given up with `OPTC_STATUS_RUN`; 0 for never.
     */
    size_t time_limit_ms;
    /**
     * Not 0: the model's files are read, and their bytes owned. 0: they are mapped, the model's file and files of
     * external data beside it, for as long as the model or a session of it lives. They may be replaced or removed
     * meanwhile, but if one is truncated or written in place, the process ends by SIGBUS or results are wrong.
     */
    int copy;
    /**
     * Not 0: the machine code that an artifact has for this machine is run, and nothing is compiled. Such code does
     * what it likes in this process: only for files from people whose programs you would run. 0: the graph is
     * compiled.
     */
    int trust;
} OptcOptions;

/**
 * What the model says about an input or output. The pointers are borrowed from the model.
 */
typedef struct OptcPort {
    /**
     * Its name, in UTF-8.
     */
    const char *name;
    /**
     * Its element type; `OPTC_DTYPE_NONE` where it is not a tensor.
     */
    enum OptcDtype dtype;
    /**
     * How many dims it has; −1 where that is open or it is not a tensor.
     */
    int64_t rank;
    /**
     * The dims, `rank` of them; −1 for an open one.
     */
    const int64_t *dims;
} OptcPort;

#ifdef __cplusplus
extern "C" {
#endif // __cplusplus

/**
 * The version of the library, such as `0.1.0`; good for as long as the program runs. From any thread.
 */
const char *optc_version(void);

/**
 * Registers the custom op `name` of `domain` for this process: models that are compiled from now on may use it.
 * `infer` declares the results with `optc_call_declare`, `eval` computes them where `optc_call_result` says;
 * both get `state`, which is good as long as the process. From any thread.
 *
 * # Safety
 * `domain` and `name` are null or end in a zero byte; `infer` and `eval` are null or may be called from any thread.
 */
enum OptcStatus optc_register_op(const char *domain,
                                 const char *name,
                                 OptcCustomFn infer,
                                 OptcCustomFn eval,
                                 void *state);

/**
 * Says why a function of a custom op cannot do what it is asked for; the function should then return another number
 * than 0.
 *
 * # Safety
 * `call` is null or the call that the function got, `message` is null or ends in a zero byte.
 */
enum OptcStatus optc_call_fail(struct OptcCall *call,
                               const char *message);

/**
 * The number of operands of a call; 0 if it is null.
 *
 * # Safety
 * `call` is null or the call that the function got.
 */
size_t optc_call_operand_count(const struct OptcCall *call);

/**
 * Describes operand `index` of a call in `*operand`.
 *
 * # Safety
 * `call` is null or the call that the function got, `operand` may be written.
 */
enum OptcStatus optc_call_operand(const struct OptcCall *call, size_t index, struct OptcOperand *operand);

/**
 * Attribute `name` of a call, an integer, in `*value`. `OPTC_STATUS_USAGE` where it is missing or of
 * another kind: `*value` stays as it is.
 *
 * # Safety
 * `call` is null or the call that the function got, `name` is null or ends in a zero byte, `value` may be written.
 */
enum OptcStatus optc_call_int(const struct OptcCall *call,
                              const char *name,
                              int64_t *value);

/**
 * Attribute `name` of a call, a float, in `*value`. `OPTC_STATUS_USAGE` where it is missing or of
 * another kind: `*value` stays as it is.
 *
 * # Safety
 * `call` is null or the call that the function got, `name` is null or ends in a zero byte, `value` may be written.
 */
enum OptcStatus optc_call_float(const struct OptcCall *call,
                                const char *name,
                                float *value);

/**
 * Attribute `name` of a call, a string, in `*value`; borrowed from the call.
 * `OPTC_STATUS_USAGE` where it is missing or of another kind: `*value` stays as it is.
 *
 * # Safety
 * `call` is null or the call that the function got, `name` is null or ends in a zero byte, `value` may be written.
 */
enum OptcStatus optc_call_string(struct OptcCall *call,
                                 const char *name,
                                 const char **value);

/**
 * Attribute `name` of a call, a tensor or a list of integers (`int64_t`) or floats, in `*value`; borrowed from the
 * call. `OPTC_STATUS_USAGE` where it is missing or of another kind: `*value` stays as it is.
 *
 * # Safety
 * `call` is null or the call that the function got, `name` is null or ends in a zero byte, `value` may be written.
 */
enum OptcStatus optc_call_tensor(struct OptcCall *call,
                                 const char *name,
                                 struct OptcTensor *value);

/**
 * Declares result `index` of a call, in the function that says the types: its element type (an `OptcDtype`) and its
 * `rank` dims, -1 for those that are not known yet; a `rank` of -1 where their number is not.
 *
 * # Safety
 * `call` is null or the call that the function got, `dims` points at `rank` values.
 */
enum OptcStatus optc_call_declare(struct OptcCall *call,
                                  size_t index,
                                  uint32_t dtype,
                                  const int64_t *dims,
                                  int64_t rank);

/**
 * Makes result `index` of a call, in the function that computes: its element type (an `OptcDtype`) and its `rank`
 * dims. `*data` is where its elements go, row-major; they are zero at first.
 *
 * # Safety
 * `call` is null or the call that the function got, `dims` points at `rank` values, `data` may be written.
 */
enum OptcStatus optc_call_result(struct OptcCall *call,
                                 size_t index,
                                 uint32_t dtype,
                                 const size_t *dims,
                                 size_t rank,
                                 uint8_t **data);

/**
 * What was wrong in the last call of this thread that did not return `OPTC_STATUS_OK`, as text; empty before the
 * first. Borrowed: good until the next call of this thread that fails.
 */
const char *optc_last_error(void);

/**
 * Compiles the ONNX model, or loads the `.optc` artifact, in the file at `path` (UTF-8). `options` may be null for the
 * defaults; nothing that it points at is needed after the call. The file is mapped unless the options say `copy`.
 * `*model` is then the caller's, for `optc_model_free`. From any thread.
 *
 * # Safety
 * `path` is a string, `options` is null or points at options, `model` may be written.
 */
enum OptcStatus optc_compile_file(const char *path,
                                  const struct OptcOptions *options,
                                  struct OptcModel **model);

/**
 * Compiles an ONNX model of `size` bytes in memory, which are not needed after the call; else as `optc_compile_file`.
 * From any thread.
 *
 * # Safety
 * `bytes` points at `size` bytes, `options` is null or points at options, `model` may be written.
 */
enum OptcStatus optc_compile_bytes(const uint8_t *bytes,
                                   size_t size,
                                   const struct OptcOptions *options,
                                   struct OptcModel **model);

/**
 * Frees a model; null is allowed. Sessions of the model stay good: they keep what they need. From any thread, while no
 * other uses `model`.
 *
 * # Safety
 * `model` is null or came from `optc_compile_...`, and is not used again.
 */
void optc_model_free(struct OptcModel *model);

/**
 * How many inputs a model has; 0 for null. From any thread.
 *
 * # Safety
 * `model` is null or a model.
 */
size_t optc_model_input_count(const struct OptcModel *model);

/**
 * How many outputs a model has; 0 for null. From any thread.
 *
 * # Safety
 * `model` is null or a model.
 */
size_t optc_model_output_count(const struct OptcModel *model);

/**
 * Describes input `index` in `*port`, whose pointers are good until the model is freed. From any thread.
 *
 * # Safety
 * `model` is null or a model, `port` may be written.
 */
enum OptcStatus optc_model_input(const struct OptcModel *model, size_t index, struct OptcPort *port);

/**
 * Describes output `index` in `*port`, whose pointers are good until the model is freed. From any thread.
 *
 * # Safety
 * `model` is null or a model, `port` may be written.
 */
enum OptcStatus optc_model_output(const struct OptcModel *model, size_t index, struct OptcPort *port);

/**
 * The index of the input called `name` (UTF-8) in `*index`. From any thread.
 *
 * # Safety
 * `model` is null or a model, `name` is a string, `index` may be written.
 */
enum OptcStatus optc_model_find_input(const struct OptcModel *model, const char *name, size_t *index);

/**
 * The index of the output called `name` (UTF-8) in `*index`. From any thread.
 *
 * # Safety
 * `model` is null or a model, `name` is a string, `index` may be written.
 */
enum OptcStatus optc_model_find_output(const struct OptcModel *model, const char *name, size_t *index);

/**
 * Makes a session for `model`; `*session` is then the caller's, for `optc_session_free`. It stays good when the model
 * is freed. From any thread.
 *
 * # Safety
 * `model` is null or a model, `session` may be written.
 */
enum OptcStatus optc_session_new(const struct OptcModel *model,
                                 struct OptcSession **session);

/**
 * Frees a session, and with it the outputs that were borrowed from it; null is allowed. From any thread, while no
 * other uses `session`.
 *
 * # Safety
 * `session` is null or came from `optc_session_new`, and is not used again.
 */
void optc_session_free(struct OptcSession *session);

/**
 * Sets input `index` for the runs that follow: elements of type `dtype` (an `OptcDtype`), row-major, in the shape of
 * the `rank` dims. `size` is the length of `data` in bytes and must fit dtype and shape. The data is copied: `dims`
 * and `data` are not needed after the call. Whether the shape fits the model shows when it is run. From one thread at
 * a time.
 *
 * # Safety
 * `session` is null or a session, `dims` points at `rank` values, `data` at `size` bytes.
 */
enum OptcStatus optc_session_set_input(struct OptcSession *session,
                                       size_t index,
                                       uint32_t dtype,
                                       const size_t *dims,
                                       size_t rank,
                                       const uint8_t *data,
                                       size_t size);

/**
 * Sets the seed of the random numbers that the next runs draw, for models that draw any; 0 at first. Runs with one
 * seed and the same inputs give the same outputs. From one thread at a time.
 *
 * # Safety
 * `session` is null or a session.
 */
enum OptcStatus optc_session_set_seed(struct OptcSession *session,
                                      uint64_t seed);

/**
 * Runs the model on the inputs that were set, which stay set. The outputs of the run before are gone. From one thread
 * at a time.
 *
 * # Safety
 * `session` is null or a session.
 */
enum OptcStatus optc_session_run(struct OptcSession *session);

/**
 * Describes output `index` of the last run in `*tensor`, whose pointers are good until the session runs again or is
 * freed. From one thread at a time.
 *
 * # Safety
 * `session` is null or a session, `tensor` may be written.
 */
enum OptcStatus optc_session_output(const struct OptcSession *session,
                                    size_t index,
                                    struct OptcTensor *tensor);

#ifdef __cplusplus
}  // extern "C"
#endif  // __cplusplus

#endif  /* OPTC_H */
