// The part of ONNX Runtime's C interface that the runner calls; its wheels have no headers.
//
// The interface is one table of functions. Releases only append to it, so a function keeps its
// place for good (https://github.com/microsoft/onnxruntime, onnxruntime_c_api.h). Below the table
// is the place that each function must have; what lies between is not declared.
#pragma once

#include <assert.h>
#include <stddef.h>
#include <stdint.h>

// The table of 1.16. What is asked for decides what the library lets the caller see: all of the
// functions below, from any release since.
enum { ORT_API_VERSION = 16 };

typedef struct OrtStatus OrtStatus;  // NULL is success
typedef struct OrtEnv OrtEnv;
typedef struct OrtMemoryInfo OrtMemoryInfo;
typedef struct OrtIoBinding OrtIoBinding;
typedef struct OrtSession OrtSession;
typedef struct OrtValue OrtValue;
typedef struct OrtRunOptions OrtRunOptions;
typedef struct OrtSessionOptions OrtSessionOptions;

// Of ONNXTensorElementDataType, OrtLoggingLevel, OrtAllocatorType and OrtMemType.
enum { ORT_FLOAT = 1, ORT_INT8 = 3, ORT_INT64 = 7 };
enum { ORT_LOG_ERRORS = 3 };
enum { ORT_DEVICE_ALLOCATOR = 0 };
enum { ORT_MEMORY_DEFAULT = 0 };

typedef struct {
  const void *to_2[2];
  const char *(*GetErrorMessage)(const OrtStatus *status);
  OrtStatus *(*CreateEnv)(int least_severity, const char *name, OrtEnv **out);
  const void *to_7[3];
  OrtStatus *(*CreateSession)(const OrtEnv *environment, const char *path,
                              const OrtSessionOptions *options, OrtSession **out);
  const void *to_10[2];
  OrtStatus *(*CreateSessionOptions)(OrtSessionOptions **out);
  const void *to_24[13];
  OrtStatus *(*SetIntraOpNumThreads)(OrtSessionOptions *options, int threads);
  const void *to_39[14];
  OrtStatus *(*CreateRunOptions)(OrtRunOptions **out);
  const void *to_49[9];
  OrtStatus *(*CreateTensorWithDataAsOrtValue)(const OrtMemoryInfo *memory, void *data,
                                               size_t bytes, const int64_t *shape, size_t rank,
                                               int element_type, OrtValue **out);
  const void *to_69[19];
  OrtStatus *(*CreateCpuMemoryInfo)(int allocator, int kind, OrtMemoryInfo **out);
  const void *to_92[22];
  void (*ReleaseEnv)(OrtEnv *environment);
  const void *to_94;
  void (*ReleaseMemoryInfo)(OrtMemoryInfo *memory);
  void (*ReleaseSession)(OrtSession *session);
  void (*ReleaseValue)(OrtValue *value);
  void (*ReleaseRunOptions)(OrtRunOptions *options);
  const void *to_100[2];
  void (*ReleaseSessionOptions)(OrtSessionOptions *options);
  const void *to_130[29];
  OrtStatus *(*AddSessionConfigEntry)(OrtSessionOptions *options, const char *name,
                                      const char *value);
  const void *to_133[2];
  OrtStatus *(*RunWithBinding)(OrtSession *session, const OrtRunOptions *options,
                               const OrtIoBinding *binding);
  OrtStatus *(*CreateIoBinding)(OrtSession *session, OrtIoBinding **out);
  void (*ReleaseIoBinding)(OrtIoBinding *binding);
  OrtStatus *(*BindInput)(OrtIoBinding *binding, const char *name, const OrtValue *value);
  OrtStatus *(*BindOutput)(OrtIoBinding *binding, const char *name, const OrtValue *value);
} OrtApi;

typedef struct {
  const OrtApi *(*GetApi)(uint32_t version);  // NULL where the library is older
  const char *(*GetVersionString)(void);
} OrtApiBase;

#define ORT_PLACE(function, place) \
  static_assert(offsetof(OrtApi, function) == (place) * sizeof(void *), #function)
ORT_PLACE(GetErrorMessage, 2);
ORT_PLACE(CreateEnv, 3);
ORT_PLACE(CreateSession, 7);
ORT_PLACE(CreateSessionOptions, 10);
ORT_PLACE(SetIntraOpNumThreads, 24);
ORT_PLACE(CreateRunOptions, 39);
ORT_PLACE(CreateTensorWithDataAsOrtValue, 49);
ORT_PLACE(CreateCpuMemoryInfo, 69);
ORT_PLACE(ReleaseEnv, 92);
ORT_PLACE(ReleaseMemoryInfo, 94);
ORT_PLACE(ReleaseSession, 95);
ORT_PLACE(ReleaseValue, 96);
ORT_PLACE(ReleaseRunOptions, 97);
ORT_PLACE(ReleaseSessionOptions, 100);
ORT_PLACE(AddSessionConfigEntry, 130);
ORT_PLACE(RunWithBinding, 133);
ORT_PLACE(CreateIoBinding, 134);
ORT_PLACE(ReleaseIoBinding, 135);
ORT_PLACE(BindInput, 136);
ORT_PLACE(BindOutput, 137);
#undef ORT_PLACE
