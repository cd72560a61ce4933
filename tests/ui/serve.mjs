// Serves the built page with the headers of the real server, over an API of made-up answers.
import { createServer } from "node:http";
import { readFileSync } from "node:fs";

const ROOT = new URL("../../", import.meta.url);
const source = readFileSync(new URL("src/tools/ui/answer.rs", ROOT), "utf8");
/** The policy of the real server, out of its source: what it forbids is forbidden here. */
export const POLICY = /const POLICY: &str = "([^"]*)"/s.exec(source)[1].replace(/\\\n\s*/g, "");
const KINDS = { html: "text/html", js: "text/javascript", css: "text/css", svg: "image/svg+xml" };

export async function serve(api) {
  const server = createServer((request, response) => {
    const url = new URL(request.url, "http://127.0.0.1");
    const headers = { "content-security-policy": POLICY, "x-content-type-options": "nosniff", "referrer-policy": "no-referrer", "cache-control": "no-cache" };
    const end = (status, body, more) => response.writeHead(status, { ...headers, ...more }).end(body);
    if (url.pathname.startsWith("/api/")) {
      if (api.down) return request.socket.destroy();
      const answer = api.answer(url.pathname, url.searchParams);
      return end(answer ? 200 : 404, JSON.stringify(answer ?? { error: "nothing here" }), { "content-type": "application/json" });
    }
    const name = url.pathname === "/" ? "index.html" : url.pathname.slice(1);
    try {
      const body = readFileSync(new URL(`src/ui/dist/${name}.gz`, ROOT));
      return end(200, body, { "content-type": KINDS[name.split(".").pop()], "content-encoding": "gzip" });
    } catch {
      return end(404, "");
    }
  });
  await new Promise((ready) => server.listen(0, "127.0.0.1", ready));
  return { url: `http://127.0.0.1:${server.address().port}/`, close: () => new Promise((done) => { server.closeAllConnections(); server.close(done); }) };
}
