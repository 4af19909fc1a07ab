// Reads a JSON document into a tree. Enough for a bundle's manifest: UTF-8 text passes through as it
// is, numbers are doubles.
#pragma once

#include <stddef.h>

#ifdef __cplusplus
extern "C" {
#endif

typedef struct json json;

// Returns the document, or NULL with the reason in `error`.
json *json_read_file(const char *path, char *error, size_t error_size);
void json_free(json *document);

// Each of these accepts NULL and a value of another type: they return NULL, 0 or `otherwise`.
const json *json_get(const json *object, const char *key);
const json *json_at(const json *array, size_t index);
size_t json_count(const json *array_or_object);
const char *json_key(const json *object, size_t index);
const char *json_text(const json *value);
double json_number(const json *value, double otherwise);

#ifdef __cplusplus
}
#endif
