// Builds the page into dist: compressed as it is served, and the same bytes on every machine.
import { build } from "esbuild";
import { gzipSync } from "node:zlib";
import { mkdirSync, readFileSync, writeFileSync } from "node:fs";

const common = { bundle: true, minify: true, format: "iife", target: "es2022", legalComments: "none", write: false,
  jsx: "automatic", jsxImportSource: "preact", charset: "utf8" };
const files = [];
for (const [name, entry] of [["page.js", "src/main.tsx"], ["layout.js", "src/worker.ts"], ["page.css", "src/page.css"]]) {
  const built = await build({ ...common, entryPoints: [entry] });
  files.push([name, built.outputFiles[0].contents]);
}
for (const name of ["index.html", "icon.svg"]) files.push([name, readFileSync(`src/${name}`)]);
const out = process.argv[2] ?? "dist";
mkdirSync(out, { recursive: true });
let sum = 0;
for (const [name, bytes] of files) {
  const packed = gzipSync(bytes, { level: 9 });
  // The byte that names the operating system.
  packed[9] = 255;
  writeFileSync(`${out}/${name}.gz`, packed);
  sum += packed.length;
  console.log(`${name}: ${bytes.length} bytes, ${packed.length} compressed`);
}
console.log(`${sum} bytes compressed`);
