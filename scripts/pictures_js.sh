#!/usr/bin/env bash
# SPDX-License-Identifier: Apache-2.0
# Makes templates/page/pictures.js.gz again: the libraries that draw the pictures of report.html, one after the
# other, as their authors published them on npm. Run it to take newer ones; look at a report afterwards.
set -euo pipefail
cd "$(dirname "${BASH_SOURCE[0]}")/.."

packages=(vega@5.33.1 vega-lite@5.23.0 vega-tooltip@0.35.2 @dagrejs/dagre@1.1.8)
files=(build/vega.min.js build/vega-lite.min.js build/vega-tooltip.min.js dist/dagre.min.js)

scratch="$(mktemp -d)"
trap 'rm -rf "$scratch"' EXIT
for k in "${!packages[@]}"; do
    archive="$(cd "$scratch" && npm pack --silent "${packages[$k]}")"
    tar -xzOf "$scratch/$archive" "package/${files[$k]}" | sed '/^\/\/# sourceMappingURL/d'
    printf '\n'
done | gzip -9n >templates/page/pictures.js.gz
