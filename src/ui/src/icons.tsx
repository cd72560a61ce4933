import type { NodeType } from "./types";

const PATHS: Record<string, string> = {
  service: "M8 1.5 13.6 4.75v6.5L8 14.5 2.4 11.25v-6.5Z",
  database: "M2.8 3.8c0-1.1 2.3-2 5.2-2s5.2.9 5.2 2-2.3 2-5.2 2-5.2-.9-5.2-2Zm0 0v8.4c0 1.1 2.3 2 5.2 2s5.2-.9 5.2-2V3.8M2.8 8c0 1.1 2.3 2 5.2 2s5.2-.9 5.2-2",
  queue: "M1.8 4h3.4v8H1.8Zm4.5 0h3.4v8H6.3Zm4.5 0h3.4v8h-3.4Z",
  external: "M8 1.8a6.2 6.2 0 1 0 0 12.4A6.2 6.2 0 0 0 8 1.8ZM1.8 8h12.4M8 1.8c2 2 2.6 4 2.6 6.2S10 12.2 8 14.2C6 12.2 5.4 10.2 5.4 8S6 3.8 8 1.8Z",
  user: "M8 8a2.9 2.9 0 1 0 0-5.8A2.9 2.9 0 0 0 8 8Zm-5.2 6.2c0-2.6 2.3-4.2 5.2-4.2s5.2 1.6 5.2 4.2",
  focus: "M2 5.5V2h3.5M10.5 2H14v3.5M14 10.5V14h-3.5M5.5 14H2v-3.5M8 6.4a1.6 1.6 0 1 0 0 3.2 1.6 1.6 0 0 0 0-3.2Z",
  group: "M2.2 2.2h4.6v4.6H2.2Zm7 0h4.6v4.6H9.2Zm-7 7h4.6v4.6H2.2Zm7 0h4.6v4.6H9.2Z",
  close: "m3.5 3.5 9 9m0-9-9 9",
  plus: "M8 3v10M3 8h10",
  minus: "M3 8h10",
  fit: "M2.5 6V2.5H6M10 2.5h3.5V6M13.5 10v3.5H10M6 13.5H2.5V10",
  search: "M7 2.5a4.5 4.5 0 1 0 0 9 4.5 4.5 0 0 0 0-9Zm3.3 7.8 3.4 3.4",
  moon: "M13 9.6A5.6 5.6 0 0 1 6.4 3 5.6 5.6 0 1 0 13 9.6Z",
  sun: "M8 5.2a2.8 2.8 0 1 0 0 5.6 2.8 2.8 0 0 0 0-5.6ZM8 1v1.6M8 13.4V15M1 8h1.6M13.4 8H15M3 3l1.2 1.2M11.8 11.8 13 13M13 3l-1.2 1.2M4.2 11.8 3 13",
  warn: "M8 2 14.4 13.5H1.6ZM8 6.2v3.6M8 11.6v.4",
  mark: "M1 8h5M6 8c4 0 2-5 8-5M6 8c4 0 2 5 8 5",
};

/** Outlines of 16 × 16; what they mean stands beside them. */
export function Icon({ name, x, y, size = 16 }: { name: NodeType | string; x?: number; y?: number; size?: number }) {
  return (
    <svg class="icon" viewBox="0 0 16 16" width={size} height={size} x={x} y={y} aria-hidden="true">
      <path d={PATHS[name] ?? PATHS.service!} />
    </svg>
  );
}
