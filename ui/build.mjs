// Builds src/ into dist/, or into the folder that is given: the same bytes for the same sources on
// any machine, since every tool is pinned by package-lock.json.
import { copyFile, mkdir } from "node:fs/promises";
import { build } from "esbuild";

const out = process.argv[2] ?? "dist";
await mkdir(out, { recursive: true });
await build({
  entryPoints: { app: "src/main.tsx" },
  outdir: out,
  bundle: true,
  minify: true,
  format: "esm",
  target: ["es2022"],
  jsx: "automatic",
  jsxImportSource: "preact",
  charset: "utf8",
  legalComments: "none",
  banner: { js: "/* Forebay's dashboard; sources in ui/. With Preact, MIT, (c) 2015-present Jason Miller. */" },
  logLevel: "warning",
});
await build({
  entryPoints: { app: "src/app.css" },
  outdir: out,
  minify: true,
  target: ["es2022"],
  logLevel: "warning",
});
await copyFile("src/index.html", `${out}/index.html`);
await copyFile("src/icon.svg", `${out}/icon.svg`);
