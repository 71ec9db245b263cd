// Builds src/ into dist/ or a given directory. Reproducible on any machine: package-lock.json pins all
// tools.
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
  banner: { js: `/* Forebay dashboard; sources in ui/. Includes Preact:\n\n${licence}\n*/` },
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
