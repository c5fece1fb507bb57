#!/usr/bin/env bash
# Makes docs/report.png, the picture in README.md, from a report of a real run.
#
#   scripts/make_report_picture.sh [REPORT.html]   default: of quickstart.sh
#
# Needs chromium (Debian package `chromium`).
set -euo pipefail
cd "$(dirname "${BASH_SOURCE[0]}")/.."

report=${1:-out/quickstart/autoglm/report.html}
[[ -f $report ]] || { echo "$report is not there; run scripts/quickstart.sh" >&2
                      exit 1; }
browser=$(command -v chromium || command -v chromium-browser ||
          command -v google-chrome) ||
  { echo "no chromium here (Debian package chromium)" >&2; exit 1; }

# A browser may be confined to the user's folders, so it works beside the
# result. 1060 wide is the page without its margins.
picture=docs/report.png
profile=$(mktemp -d)
trap 'rm -rf "$profile"' EXIT
"$browser" --headless --no-sandbox --disable-gpu --hide-scrollbars \
  --user-data-dir="$profile" --window-size=1100,1815 \
  --screenshot="$PWD/$picture" "file://$(realpath "$report")" 2>/dev/null
echo "$picture"
