// JSON values and files. nlohmann-json behind one door: depth-limited parsing
// (a hostile file cannot overflow the stack) and reads that name file and key.
#pragma once

#include <cstdint>
#include <filesystem>
#include <nlohmann/json.hpp>
#include <string>
#include <string_view>
#include <vector>

namespace autoglm {

/// Keys keep their order, so a file read and written keeps its look.
using Json = nlohmann::ordered_json;

/// Parses JSON text; `source` names it in errors. Throws kInput on a syntax
/// error (with its position), a duplicate key or nesting beyond 256 levels.
Json parse_json(std::string_view text, const std::string& source);

/// For objects with very many keys that are looked up by name: sorted, found
/// in logarithmic time.
using LargeJson = nlohmann::json;
/// As parse_json.
LargeJson parse_large_json(std::string_view text, const std::string& source);

/// Reads and parses a file. Throws kInput.
Json read_json(const std::filesystem::path& file);

// Typed reads of an object's field; `source` names the file. Throw kInput
// "config.json: hidden_size is missing" or "... should be an integer".
std::int64_t json_int(const Json& object, const char* key,
                      const std::string& source);
double json_double(const Json& object, const char* key,
                   const std::string& source);
std::string json_string(const Json& object, const char* key,
                        const std::string& source);
std::int64_t json_int_or(const Json& object, const char* key,
                         std::int64_t fallback, const std::string& source);
double json_double_or(const Json& object, const char* key, double fallback,
                      const std::string& source);
bool json_bool_or(const Json& object, const char* key, bool fallback,
                  const std::string& source);

/// Two-space indented text with a final newline; non-finite numbers are null.
std::string to_text(const Json& value);

}  // namespace autoglm
