import { effect } from "@preact/signals";
import { render } from "preact";
import "uplot/dist/uPlot.min.css";
import { App } from "./app";
import { start, subscribe } from "./live";
import { route, topicsOf } from "./route";
import "./style.css";
import { lang, theme } from "./text";

effect(() => {
  document.documentElement.lang = lang.value;
  document.documentElement.dataset.theme = theme.value;
});
effect(() => {
  void lang.value; // Sentences come in the language that was asked for.
  subscribe(topicsOf(route.value));
});
start();
render(<App />, document.getElementById("app")!);
