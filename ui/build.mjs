// Builds src/ into dist/, or into the folder that is given: the same bytes for the same sources on
// any machine, since every tool is pinned by package-lock.json.
import { copyFile, mkdir, readFile } from "node:fs/promises";
import { build } from "esbuild";

const out = process.argv[2] ?? "dist";
await mkdir(out, { recursive: true });
const licence = (await readFile("node_modules/preact/LICENSE", "utf8")).trim();
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
  banner: { js: `/* Forebay's dashboard; its sources are in ui/. It has Preact in it:\n\n${licence}\n*/` },
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
