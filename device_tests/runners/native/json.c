#include "json.h"

#include <stdio.h>
#include <stdlib.h>
#include <string.h>

enum kind { JSON_NULL, JSON_FALSE, JSON_TRUE, JSON_NUMBER, JSON_TEXT, JSON_ARRAY, JSON_OBJECT };

struct json {
  enum kind kind;
  double number;
  char *text;
  size_t count;
  char **keys;  // of an object, as many as items
  json **items;
};

typedef struct {
  const char *start, *at;
  const char *problem;
  int depth;
} reader;

static const int MAX_DEPTH = 64;

static json *read_value(reader *r);

static void skip_space(reader *r) {
  while (*r->at == ' ' || *r->at == '\n' || *r->at == '\r' || *r->at == '\t') r->at++;
}

static json *fail(reader *r, const char *problem) {
  if (!r->problem) r->problem = problem;
  return NULL;
}

static json *new_value(reader *r, enum kind kind) {
  json *value = calloc(1, sizeof *value);
  if (!value) return fail(r, "out of memory");
  value->kind = kind;
  return value;
}

static int hex_digits(const char *at, unsigned *code) {
  *code = 0;
  for (int i = 0; i < 4; i++) {
    char c = at[i];
    unsigned digit = c >= '0' && c <= '9'   ? (unsigned)(c - '0')
                     : c >= 'a' && c <= 'f' ? (unsigned)(c - 'a' + 10)
                     : c >= 'A' && c <= 'F' ? (unsigned)(c - 'A' + 10)
                                            : 16;
    if (digit == 16) return 0;
    *code = *code * 16 + digit;
  }
  return 1;
}

static char *put_utf8(char *out, unsigned code) {
  if (code < 0x80) {
    *out++ = (char)code;
  } else if (code < 0x800) {
    *out++ = (char)(0xC0 | code >> 6);
    *out++ = (char)(0x80 | (code & 0x3F));
  } else if (code < 0x10000) {
    *out++ = (char)(0xE0 | code >> 12);
    *out++ = (char)(0x80 | (code >> 6 & 0x3F));
    *out++ = (char)(0x80 | (code & 0x3F));
  } else {
    *out++ = (char)(0xF0 | code >> 18);
    *out++ = (char)(0x80 | (code >> 12 & 0x3F));
    *out++ = (char)(0x80 | (code >> 6 & 0x3F));
    *out++ = (char)(0x80 | (code & 0x3F));
  }
  return out;
}

// At the backslash of \uXXXX, perhaps the first half of a pair.
static char *read_unicode(reader *r, char *out) {
  unsigned code, low;
  if (!hex_digits(r->at + 2, &code)) {
    fail(r, "\\u needs four hexadecimal digits");
    return out;
  }
  r->at += 6;
  if (code >= 0xD800 && code < 0xDC00 && r->at[0] == '\\' && r->at[1] == 'u' &&
      hex_digits(r->at + 2, &low) && low >= 0xDC00 && low < 0xE000) {
    code = 0x10000 + ((code - 0xD800) << 10) + (low - 0xDC00);
    r->at += 6;
  }
  return put_utf8(out, code);
}

// Returns the text behind an opening quote; the caller owns it.
static char *read_text(reader *r) {
  const char *end = ++r->at;
  while (*end && *end != '"') end += *end == '\\' && end[1] ? 2 : 1;
  if (*end != '"') {
    fail(r, "a text has no end");
    return NULL;
  }
  char *text = malloc((size_t)(end - r->at) + 1), *out = text;
  if (!text) {
    fail(r, "out of memory");
    return NULL;
  }
  while (r->at < end && !r->problem) {
    if (*r->at != '\\') {
      *out++ = *r->at++;
    } else if (r->at[1] == 'u') {
      out = read_unicode(r, out);
    } else {
      static const char from[] = "\"\\/bfnrt", to[] = "\"\\/\b\f\n\r\t";
      const char *found = strchr(from, r->at[1]);
      if (!found) fail(r, "unknown escape in a text");
      *out++ = found ? to[found - from] : '?';
      r->at += 2;
    }
  }
  *out = 0;
  r->at = end + 1;
  return text;
}

static int append(json *parent, char *key, json *item) {
  size_t room = parent->count + 1;
  // Room doubles: it grows whenever the count is a power of two.
  if ((parent->count & (parent->count - 1)) == 0) {
    size_t doubled = parent->count ? 2 * parent->count : 1;
    json **items = realloc(parent->items, doubled * sizeof *items);
    if (!items) return 0;
    parent->items = items;
    if (parent->kind == JSON_OBJECT) {
      char **keys = realloc(parent->keys, doubled * sizeof *keys);
      if (!keys) return 0;
      parent->keys = keys;
    }
  }
  if (parent->kind == JSON_OBJECT) parent->keys[parent->count] = key;
  parent->items[parent->count] = item;
  parent->count = room;
  return 1;
}

static json *read_members(reader *r, enum kind kind) {
  char close = kind == JSON_OBJECT ? '}' : ']';
  json *value = new_value(r, kind);
  if (!value) return NULL;
  r->at++;
  skip_space(r);
  while (*r->at != close && !r->problem) {
    char *key = NULL;
    if (kind == JSON_OBJECT) {
      if (*r->at != '"') {
        fail(r, "expected a name in quotes");
        break;
      }
      key = read_text(r);
      skip_space(r);
      if (!r->problem && *r->at++ != ':') fail(r, "expected a colon behind a name");
    }
    json *item = r->problem ? NULL : read_value(r);
    if (!item || !append(value, key, item)) {
      free(key);
      json_free(item);
      fail(r, "out of memory");
      break;
    }
    skip_space(r);
    if (*r->at == ',') {
      r->at++;
      skip_space(r);
      if (*r->at == close) fail(r, "a comma before the end");
    } else if (*r->at != close) {
      fail(r, "expected a comma");
    }
  }
  if (!r->problem) r->at++;
  return value;
}

static json *read_word(reader *r, const char *word, enum kind kind) {
  size_t length = strlen(word);
  if (strncmp(r->at, word, length) != 0) return fail(r, "unexpected character");
  r->at += length;
  return new_value(r, kind);
}

static json *read_number(reader *r) {
  char *end;
  if (*r->at != '-' && (*r->at < '0' || *r->at > '9')) return fail(r, "unexpected character");
  double number = strtod(r->at, &end);
  if (end == r->at) return fail(r, "unexpected character");
  json *value = new_value(r, JSON_NUMBER);
  if (value) value->number = number;
  r->at = end;
  return value;
}

static json *read_value(reader *r) {
  json *value;
  skip_space(r);
  if (++r->depth > MAX_DEPTH) return fail(r, "nested too deep");
  switch (*r->at) {
    case '{': value = read_members(r, JSON_OBJECT); break;
    case '[': value = read_members(r, JSON_ARRAY); break;
    case '"':
      value = new_value(r, JSON_TEXT);
      if (value) value->text = read_text(r);
      break;
    case 't': value = read_word(r, "true", JSON_TRUE); break;
    case 'f': value = read_word(r, "false", JSON_FALSE); break;
    case 'n': value = read_word(r, "null", JSON_NULL); break;
    default: value = read_number(r);
  }
  r->depth--;
  return value;
}

static char *read_all(const char *path) {
  FILE *file = fopen(path, "rb");
  if (!file) return NULL;
  char *text = NULL;
  if (fseek(file, 0, SEEK_END) == 0) {
    long size = ftell(file);
    rewind(file);
    text = size < 0 ? NULL : malloc((size_t)size + 1);
    if (text && fread(text, 1, (size_t)size, file) == (size_t)size) {
      text[size] = 0;
    } else {
      free(text);
      text = NULL;
    }
  }
  fclose(file);
  return text;
}

json *json_read_file(const char *path, char *error, size_t error_size) {
  char *text = read_all(path);
  if (!text) {
    snprintf(error, error_size, "%s: cannot be read", path);
    return NULL;
  }
  reader r = {text, text, NULL, 0};
  json *document = read_value(&r);
  skip_space(&r);
  if (!r.problem && *r.at) fail(&r, "more text behind the document");
  if (r.problem) {
    snprintf(error, error_size, "%s: byte %zu: %s", path, (size_t)(r.at - text), r.problem);
    json_free(document);
    document = NULL;
  }
  free(text);
  return document;
}

void json_free(json *document) {
  if (!document) return;
  for (size_t i = 0; i < document->count; i++) {
    if (document->keys) free(document->keys[i]);
    json_free(document->items[i]);
  }
  free(document->keys);
  free(document->items);
  free(document->text);
  free(document);
}

const json *json_get(const json *object, const char *key) {
  if (!object || object->kind != JSON_OBJECT) return NULL;
  for (size_t i = 0; i < object->count; i++) {
    if (strcmp(object->keys[i], key) == 0) return object->items[i];
  }
  return NULL;
}

const json *json_at(const json *array, size_t index) {
  return array && index < array->count ? array->items[index] : NULL;
}

size_t json_count(const json *value) { return value ? value->count : 0; }

const char *json_key(const json *object, size_t index) {
  return object && object->keys && index < object->count ? object->keys[index] : NULL;
}

const char *json_text(const json *value) {
  return value && value->kind == JSON_TEXT ? value->text : NULL;
}

double json_number(const json *value, double otherwise) {
  return value && value->kind == JSON_NUMBER ? value->number : otherwise;
}
