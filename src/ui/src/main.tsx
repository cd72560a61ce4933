import { effect } from "@preact/signals";
import { render } from "preact";
import { useEffect, useState } from "preact/hooks";
import { Banners, Empty, TimeBar, TopBar } from "./bars";
import { closeOne, ServiceMap } from "./map";
import { Panel } from "./panel";
import { drawn, prepare, sceneOf, show } from "./scene";
import { graph, loading, offline, route, size } from "./state";
import { HoverCard, Legend, TopStrip, Zoom } from "./strips";
import { Table } from "./table";

effect(() => {
  const g = graph.value;
  const said = route.value;
  const narrow = size.value.width < 1100;
  if (g && g.nodes.length) void show(sceneOf(g, said, narrow));
  else if (g) drawn.value = null;
});

/** Nothing for a moment: most answers come before a word could be read. */
function Waiting() {
  const [late, setLate] = useState(false);
  useEffect(() => {
    const timer = setTimeout(() => setLate(true), 300);
    return () => clearTimeout(timer);
  }, []);
  return late ? <div class="empty" role="status"><p>Loading the map…</p></div> : null;
}

function Page() {
  const { view, sel } = route.value;
  const g = graph.value;
  const bare = !!g && !loading.value && g.nodes.length === 0;
  useEffect(() => {
    const hear = (event: KeyboardEvent) => {
      if (event.key === "Escape" && !event.defaultPrevented) closeOne();
    };
    addEventListener("keydown", hear);
    return () => removeEventListener("keydown", hear);
  }, []);
  return (
    <>
      <TopBar />
      <main class={`${sel ? "with-panel" : ""} ${g && offline.value ? "stale" : ""}`}>
        <div class="stage">
          {bare ? <Empty /> : view === "table" && g ? <Table /> : <><ServiceMap />{g && <><TopStrip /><Zoom /><Legend /></>}</>}
          {!g && !offline.value && <Waiting />}
          <Banners />
        </div>
        <Panel />
      </main>
      <TimeBar />
      {view === "map" && <HoverCard />}
    </>
  );
}

prepare();
render(<Page />, document.getElementById("page")!);
