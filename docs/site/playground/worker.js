// Python in the background, so that the page stays responsive. Messages: {recipe, number} -> {answer, number}; {state} on the way.
import { loadPyodide } from "./pyodide.mjs";

const ready = (async () => {
  const fetched = (name) => fetch(name).then((reply) => (reply.ok ? reply : Promise.reject(new Error(`${name}: ${reply.status}`))));
  postMessage({ state: "loading Python" });
  const [python, archive, glue] = await Promise.all([
    loadPyodide({ indexURL: new URL("./", self.location.href).href }),
    fetched("python.zip").then((reply) => reply.arrayBuffer()),
    fetched("glue.py").then((reply) => reply.text()),
  ]);
  postMessage({ state: "loading ftc" });
  python.unpackArchive(archive, "zip", { extractDir: "/packages" });
  python.runPython("import sys; sys.path.insert(0, '/packages')");
  python.runPython(glue);
  python.runPython("prepare()");
  return python.globals.get("answer");
})();

self.onmessage = async ({ data }) => {
  try {
    const answer = await ready;
    postMessage({ state: "checking" });
    postMessage({ answer: JSON.parse(answer(data.recipe)), number: data.number });
  } catch (error) {
    postMessage({ failure: String(error), number: data.number });
  }
};
