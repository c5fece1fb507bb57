#include "autoglm/text/chat.h"

#include "autoglm/core/error.h"
#include "autoglm/core/text.h"

namespace autoglm {
namespace {

using Messages = std::span<const Message>;

// One text: the tokenizer finds the role strings, as it does after
// transformers has written out the chat template.
std::vector<TokenId> encode_template(const Tokenizer& tokenizer,
                                     Messages messages) {
  std::string text;
  for (const Message& message : messages)
    text += fmt::format("<|{}|>\n{}", message.role, message.content);
  return tokenizer.encode(text);
}

// The published code of GLM-4-9B and ChatGLM3: contents are never searched for
// special tokens, and newline and content are encoded by calls of their own
// (with SentencePiece each gets a blank in front).
std::vector<TokenId> encode_role_tokens(const Tokenizer& tokenizer,
                                        Messages messages) {
  std::vector<TokenId> out;
  for (const Message& message : messages) {
    const auto role = tokenizer.find_token(fmt::format("<|{}|>", message.role));
    if (!role)
      fail(ErrorKind::kInput, fmt::format("{} has no token for the role '{}'",
                                          tokenizer.kind(), message.role));
    out.push_back(*role);
    for (const std::string_view part :
         {std::string_view("\n"), std::string_view(message.content)}) {
      const auto ids = tokenizer.encode(part, false, TextForm::kPlain);
      out.insert(out.end(), ids.begin(), ids.end());
    }
  }
  return out;
}

std::string join(Messages messages) {
  std::string text;
  for (const Message& message : messages) {
    if (!text.empty()) text += '\n';
    text += message.content;
  }
  return text;
}

// Questions and answers with numbers; `gap` ends the lines.
std::string write_rounds(Messages messages, int number, std::string_view gap) {
  std::string text;
  bool open = false;  // a question waits for its answer
  for (const Message& message : messages) {
    if (message.role == "assistant" && open) {
      text += message.content;
      text += gap;
      open = false;
      continue;
    }
    if (open) text += gap;
    open = message.role == "user";
    if (open)
      text += fmt::format("[Round {0}]{1}问：{2}{1}答：", number++, gap,
                          message.content);
    else
      text += fmt::format("{}{}", message.content, gap);
  }
  return text;
}

std::vector<TokenId> encode_rounds_from_one(const Tokenizer& tokenizer,
                                            Messages messages) {
  return tokenizer.encode(write_rounds(messages, 1, "\n\n"));
}

std::vector<TokenId> encode_rounds_from_zero(const Tokenizer& tokenizer,
                                             Messages messages) {
  std::size_t questions = 0;
  for (const Message& message : messages) questions += message.role == "user";
  // The published code writes a first question without any frame.
  return tokenizer.encode(questions > 1 ? write_rounds(messages, 0, "\n")
                                        : join(messages));
}

std::vector<TokenId> encode_joined(const Tokenizer& tokenizer,
                                   Messages messages) {
  return tokenizer.encode(join(messages));
}

struct Form {
  ChatForm form;
  std::vector<TokenId> (*encode)(const Tokenizer&, Messages);
};
constexpr Form kForms[] = {
    {ChatForm::kTemplate, encode_template},
    {ChatForm::kRoleTokens, encode_role_tokens},
    {ChatForm::kRoundsFromOne, encode_rounds_from_one},
    {ChatForm::kRoundsFromZero, encode_rounds_from_zero},
    {ChatForm::kJoined, encode_joined},
};

}  // namespace

std::vector<TokenId> encode_chat(const Tokenizer& tokenizer,
                                 Messages messages) {
  for (const Form& entry : kForms)
    if (entry.form == tokenizer.chat_form())
      return entry.encode(tokenizer, messages);
  AUTOGLM_ENSURE(!"every chat form is in the table");
  return {};
}

}  // namespace autoglm
