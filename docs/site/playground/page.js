// The page: what is typed goes to the worker after a pause; what comes back is shown in tabs. The recipe is kept in the address.
const worker = new Worker("worker.js", { type: "module" });
const [recipe, gutter, tabs, output, state, choice] = ["recipe", "gutter", "tabs", "output", "state", "choice"].map((id) => document.getElementById(id));
let number = 0, shown = "messages", last = null, timer = 0;

const EXAMPLES = {
  "LoRA, 8 GPUs": `name   = "support"
engine = llamafactory("0.9.5")

hardware { gpu = h100(80GB), count = 8 }

sft {
  model    = hf("Qwen/Qwen3-8B")
  template = qwen3_nothink
  data     = file("data/support.jsonl")
  max_len  = 4Ki
  duration = 2 epochs

  lora  { rank = 32, targets = all }
  optim { lr = 1e-4, warmup = 3% }
  batch { global = 64 }
}

merge from sft
`,
  "QLoRA, one card": `name   = "qlora"
engine = llamafactory("0.9.5")

hardware { gpu = rtx4090, count = 1 }

sft {
  model    = hf("Qwen/Qwen3-8B")
  template = qwen3_nothink
  data     = file("data/support.jsonl")
  max_len  = 2Ki

  quantize { bits = 4, double = true }
  lora     { rank = 16 }
  optim    { lr = 2e-4 }
  batch    { global = 16 }
}
`,
  "full, ZeRO-3, then DPO": `name   = "align"
engine = llamafactory("0.9.5")

hardware { gpu = h100(80GB), count = 8 }

template = qwen3_nothink
max_len  = 4Ki

sft {
  model    = hf("Qwen/Qwen3-14B")
  data     = file("data/chat.jsonl")
  full     {}
  optim    { lr = 1e-5, schedule = [warmup(3%), hold(70%), decay(27%, to = 10%)] }
  batch    { global = 128 }
  parallel { strategy = zero3 }
}

dpo from sft {
  data  = file("data/prefs.jsonl")
  beta  = 0.1
  optim { lr = 5e-7 }
  batch { global = 64 }
}
`,
  "a slip": `engine = llamafactory("0.9.5")

sft {
  model    = hf("Qwen/Qwen3-0.6B")
  template = qwen3_nothink
  data     = file("data/rows.jsonl")
  lora     { rank = 16, alpa = 32 }
  duration = 3
}
`,
};

const encode = (text) => btoa(String.fromCharCode(...new TextEncoder().encode(text)));
const decode = (text) => new TextDecoder().decode(Uint8Array.from(atob(text), (c) => c.charCodeAt(0)));

function numbers() {
  const errors = new Set((last?.diagnostics ?? []).filter((one) => one.severity === "error").map((one) => one.line));
  gutter.replaceChildren(
    ...recipe.value.split("\n").map((_, index) => {
      const line = document.createElement("div");
      line.textContent = index + 1;
      line.className = errors.has(index + 1) ? "marked" : "";
      return line;
    }),
  );
  gutter.scrollTop = recipe.scrollTop;
}

function changed(delay = 500) {
  numbers();
  history.replaceState(null, "", `#${encode(recipe.value)}`);
  clearTimeout(timer);
  timer = setTimeout(() => worker.postMessage({ recipe: recipe.value, number: ++number }), delay);
}

function show() {
  if (!last) return;
  const texts = { messages: last.messages, ...(last.plan ? { plan: last.plan } : {}), ...last.files };
  if (!(shown in texts)) shown = "messages";
  tabs.replaceChildren(
    ...Object.keys(texts).map((name) => {
      const tab = document.createElement("button");
      tab.textContent = name;
      tab.setAttribute("role", "tab");
      tab.setAttribute("aria-selected", String(name === shown));
      tab.onclick = () => ((shown = name), show());
      return tab;
    }),
  );
  output.textContent = texts[shown];
}

worker.onmessage = ({ data }) => {
  if (data.state) state.textContent = `${data.state} …`;
  if (data.number !== undefined && data.number !== number) return;
  if (data.failure) (state.textContent = "failed"), (output.textContent = data.failure);
  if (data.answer) {
    last = data.answer;
    state.textContent = last.ok ? "fine" : "errors";
    state.className = last.ok ? "fine" : "errors";
    document.body.dataset.number = data.number;
    show();
    numbers();
  }
};

for (const name of Object.keys(EXAMPLES)) choice.append(new Option(name));
choice.onchange = () => ((recipe.value = EXAMPLES[choice.value]), changed(0));
recipe.oninput = () => changed();
recipe.onscroll = () => (gutter.scrollTop = recipe.scrollTop);
recipe.onkeydown = (event) => {
  if (event.key === "Tab" && !event.shiftKey) event.preventDefault(), recipe.setRangeText("  ", recipe.selectionStart, recipe.selectionEnd, "end"), changed();
};
try {
  recipe.value = location.hash.length > 1 ? decode(location.hash.slice(1)) : EXAMPLES["LoRA, 8 GPUs"];
} catch {
  recipe.value = EXAMPLES["LoRA, 8 GPUs"];
}
changed(0);
