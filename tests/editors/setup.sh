#!/usr/bin/env bash
# Installs VS Code for the browser (code-server) into the folder given, from npm, and compiles its native modules.
# What the install scripts of these packages would download from elsewhere is not needed: they are off.
set -euo pipefail
here=$(cd "$(dirname "${BASH_SOURCE[0]}")" && pwd)
mkdir -p "$1" && cd "$1"
[ -e ready ] && exit 0
cp "$here/package.json" .
npm install --ignore-scripts --no-audit --no-fund --loglevel=error
gyp=$(find "$(npm root -g)/npm/node_modules/node-gyp/bin" -name node-gyp.js)
(mkdir -p node24 && cd node24 && echo "{}" >package.json && npm install --no-audit --no-fund --loglevel=error node@24.21.0)
headers=$(find "$PWD/node24" -name node_api.h | head -1)
export npm_config_nodedir=${headers%/include/node/node_api.h}
for file in common.gypi config.gypi; do # the npm package of node leaves these two files of the headers out
  [ -e "/usr/include/node/$file" ] && cp "/usr/include/node/$file" "$npm_config_nodedir/include/node/"
done
cp "$npm_config_nodedir/include/node/common.gypi" "$npm_config_nodedir/"
export PATH=$npm_config_nodedir/bin:$PATH
node -e 'console.log(JSON.stringify(process.config))' >"$npm_config_nodedir/include/node/config.gypi"
ln -sf "$(command -v node)" node
cd node_modules/code-server/lib/vscode
npm install --ignore-scripts --no-audit --no-fund --omit=dev --loglevel=error
for module in @vscode/spdlog @vscode/native-watchdog @vscode/deviceid @vscode/sqlite3 @parcel/watcher node-pty; do
  (cd "node_modules/$module" && node "$gyp" rebuild --silent)
done
(cd extensions && npm install --ignore-scripts --no-audit --no-fund --omit=dev --loglevel=error)
touch "$1/ready"
