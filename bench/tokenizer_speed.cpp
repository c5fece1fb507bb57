// How fast is the tokenizer, and does any text make it slow?
//
//   tokenizer_speed MODEL TEXT [--repeat R] [--threads N] [--ids FILE]
//
// One JSON line per question: loading; the whole text in one call; the text in
// paragraphs, one call each, on one thread and on N (the tokenizer is shared);
// one-megabyte texts made to be slow, at half and at full size. Speeds are MB
// (10^6 bytes) of text a second of wall clock, from the median of R runs; the
// CPU seconds of all threads stand beside, for a machine that others use.
// --ids writes the whole text's ids as little-endian int32, to be compared
// with another tokenizer's: numpy.fromfile(FILE, "<i4").
#include <fmt/core.h>

#include <algorithm>
#include <chrono>
#include <cstdint>
#include <ctime>
#include <functional>
#include <string>
#include <string_view>
#include <thread>
#include <utility>
#include <vector>

#include "autoglm/core/file.h"
#include "autoglm/text/tokenizer.h"
#include "command_line.h"

namespace {

using autoglm::TokenId;
using autoglm::Tokenizer;

struct Settings {
  std::string model, text, ids;
  int repeat = 3;
  int threads =
      std::max(1, static_cast<int>(std::thread::hardware_concurrency()));
};

struct Time {
  double wall = 0, cpu = 0;  // seconds
};

Time time_of(const std::function<void()>& work) {
  const std::clock_t cpu = std::clock();
  const auto start = std::chrono::steady_clock::now();
  work();
  const std::chrono::duration<double> wall =
      std::chrono::steady_clock::now() - start;
  return {wall.count(),
          static_cast<double>(std::clock() - cpu) / CLOCKS_PER_SEC};
}

Time median_time(int repeat, const std::function<void()>& work) {
  std::vector<Time> times;
  for (int i = 0; i < repeat; ++i) times.push_back(time_of(work));
  std::sort(times.begin(), times.end(),
            [](const Time& a, const Time& b) { return a.wall < b.wall; });
  return times[times.size() / 2];
}

void report(std::string_view what, std::size_t bytes, std::size_t tokens,
            const Time& time) {
  fmt::print(
      "{{\"what\": \"{}\", \"bytes\": {}, \"tokens\": {}, \"seconds\": {:.3f}, "
      "\"cpu_seconds\": {:.3f}, \"mb_per_second\": {:.2f}}}\n",
      what, bytes, tokens, time.wall, time.cpu,
      static_cast<double>(bytes) / 1e6 / time.wall);
}

// Stretches of about `size` bytes that end behind a line.
std::vector<std::string_view> paragraphs(std::string_view text,
                                         std::size_t size) {
  std::vector<std::string_view> out;
  while (!text.empty()) {
    std::size_t end = text.size() <= size ? text.size() : text.find('\n', size);
    end = end >= text.size() ? text.size() : end + 1;
    out.push_back(text.substr(0, end));
    text.remove_prefix(end);
  }
  return out;
}

std::size_t encode_all(const Tokenizer& tokenizer,
                       const std::vector<std::string_view>& texts,
                       int threads) {
  std::vector<std::size_t> counts(static_cast<std::size_t>(threads));
  std::vector<std::jthread> workers;
  for (std::size_t worker = 0; worker < counts.size(); ++worker)
    workers.emplace_back([&, worker] {
      std::size_t count = 0;
      for (std::size_t i = worker; i < texts.size(); i += counts.size())
        count += tokenizer.encode(texts[i]).size();
      counts[worker] = count;
    });
  workers.clear();  // joins
  std::size_t total = 0;
  for (const std::size_t count : counts) total += count;
  return total;
}

void hostile_texts(const Tokenizer& tokenizer) {
  const std::pair<const char*, const char*> units[] = {
      {"one letter", "a"},     {"blanks", " "},
      {"newlines", "\n"},      {"digits", "1"},
      {"marks", "!"},          {"letters, no blank", "thequickbrownfox"},
      {"CJK", "\u4e2d\u6587"}, {"blank, tab", " \t"}};
  for (const auto& [name, unit] : units)
    for (const std::size_t size : {500'000u, 1'000'000u}) {
      std::string text;
      while (text.size() < size) text += unit;
      std::size_t tokens = 0;
      const Time time =
          time_of([&] { tokens = tokenizer.encode(text).size(); });
      report(fmt::format("hostile: {}", name), text.size(), tokens, time);
    }
}

void run(const Settings& settings) {
  const Time load = median_time(3, [&] { Tokenizer::load(settings.model); });
  fmt::print(
      "{{\"what\": \"load\", \"seconds\": {:.3f}, \"cpu_seconds\": {:.3f}}}\n",
      load.wall, load.cpu);
  const Tokenizer tokenizer = Tokenizer::load(settings.model);
  const std::string text = autoglm::read_file(settings.text);

  std::vector<TokenId> ids;
  const Time whole =
      median_time(settings.repeat, [&] { ids = tokenizer.encode(text); });
  report("whole text", text.size(), ids.size(), whole);
  if (!settings.ids.empty())
    autoglm::write_file_atomically(settings.ids,
                                   {reinterpret_cast<const char*>(ids.data()),
                                    ids.size() * sizeof(TokenId)});

  const std::vector<std::string_view> parts = paragraphs(text, 4096);
  for (const int threads : {1, settings.threads}) {
    std::size_t tokens = 0;
    const Time time = median_time(settings.repeat, [&] {
      tokens = encode_all(tokenizer, parts, threads);
    });
    report(fmt::format("{} paragraphs, {} threads", parts.size(), threads),
           text.size(), tokens, time);
    if (threads == settings.threads) break;
  }
  hostile_texts(tokenizer);
}

}  // namespace

int main(int count, char** words) {
  Settings settings;
  CLI::App app("How fast is the tokenizer, and does any text make it slow?",
               "tokenizer_speed");
  app.add_option("MODEL", settings.model, "checkpoint folder")->required();
  app.add_option("TEXT", settings.text, "file")->required();
  app.add_option("--repeat", settings.repeat,
                 "runs, of which the median counts")
      ->check(CLI::PositiveNumber)
      ->capture_default_str();
  app.add_option("--threads", settings.threads, "for paragraphs")
      ->check(CLI::PositiveNumber)
      ->capture_default_str();
  app.add_option("--ids", settings.ids, "file for the ids of the whole text");
  return autoglm::bench::run_program(app, count, words, [&] { run(settings); });
}
