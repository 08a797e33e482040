# The npm package: Darkroom's JavaScript and wasm for bundlers, with declarations of TypeScript, and without a model. Sourced by
# build.sh, which sets `root`, `target` and `log`.

# pack_types <folder>: the declarations of what is in it, from the JSDoc and from wasm-bindgen's.
pack_types() {
    "$(tsc_bin)" --project "$root/tools/npm/tsconfig.json" --outDir "$1"
    # What the wasm exports is of no use to callers, and wasm-bindgen types it as `any`; `Symbol.dispose` is in no published
    # version of ECMAScript's library.
    awk '/^export interface InitOutput/ { print; print "    readonly memory: WebAssembly.Memory;"; skips = 1; next }
         skips && /^}/ { skips = 0 }
         !skips && !/\[Symbol\.dispose\]/' "$root/www/pkg/darkroom.d.ts" >"$1/pkg/darkroom.d.ts"
    echo 'export const memory: WebAssembly.Memory;' >"$1/pkg/darkroom_bg.wasm.d.ts"
    # The arrays are generic from TypeScript 5.7 on alone; this is the same type there, and one that is known before.
    find "$1" -name '*.d.ts' -exec sed -i.old -E \
        's/(Uint8(Clamped)?Array)<ArrayBuffer>/ReturnType<\1Constructor["from"]>/g' {} +
    find "$1" -name '*.d.ts.old' -delete
}

# Stages the package in target/npm/package and packs it to target/npm/darkroom-<version>.tgz.
build_npm() {
    local into=$target/npm/package version
    version=$(sed -n 's/^version = "\(.*\)"/\1/p' "$root/Cargo.toml" | head -n 1)
    rm -rf "$target/npm"
    mkdir -p "$into"
    node "$root/tools/npm/files.mjs" "$root/www" >"$target/npm/files"
    (
        cd "$root/www"
        tar -cf - -T "$target/npm/files" pkg/*.d.ts | tar -xf - -C "$into"
    )
    # Threads are a second wasm that only isolated pages load, from addresses that bundlers do not see.
    say_threads null "$into/pkg"
    sed "s/\"version\": \"0.0.0\"/\"version\": \"$version\"/" "$root/tools/npm/package.json" >"$into/package.json"
    cp "$root/LICENSE-APACHE" "$root/LICENSE-MIT" "$into"
    cp "$root/docs/javascript.md" "$into/README.md"
    pack_types "$into"
    (cd "$into" && npm pack --silent --ignore-scripts --pack-destination "$target/npm")
    # A module that package.json leaves out is missed here, not by whoever installs it.
    mkdir "$target/npm/packed"
    tar -xzf "$target"/npm/darkroom-*.tgz -C "$target/npm/packed"
    node "$root/tools/npm/files.mjs" "$target/npm/packed/package" >"$target/npm/files"
}

# The package's declarations as a page in TypeScript sees them, from the staged package: strict, without what hides faults.
check_npm_types() {
    local project=$target/npm/types
    rm -rf "$project"
    mkdir -p "$project/node_modules"
    ln -s "$target/npm/package" "$project/node_modules/darkroom"
    cp "$root/tools/npm/consumer/"* "$project"
    (cd "$project" && "$(tsc_bin)" --project tsconfig.json)
    # No `any` that would switch checking off for callers.
    if grep -rnE '[:<|(,=] *any\b *[;,)>|&=]' "$target/npm/package" --include '*.d.ts'; then
        echo "the declarations have an any" >&2
        return 1
    fi
}

npm_size() {
    local file
    for file in "$target"/npm/*.tgz; do echo "$file: $(wc -c <"$file" | tr -d ' ') bytes"; done
}

verb_npm() {
    verb_setup_for check
    stage "wasm" build_wasm
    stage "npm package" build_npm
    stage "npm types" check_npm_types
    npm_size
}

# The packed package in projects of its users: installed, bundled, drawn with in a browser. It wants the npm registry.
test_npm() { node "$root/tools/npm/test.mjs" "$@"; }
