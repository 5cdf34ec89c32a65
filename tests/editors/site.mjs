// Opens pages in headless Chromium and prints what is there, as JSON. usage: node site.mjs ADDRESS CHROMIUM RECIPE PICTURES
import { chromium } from "playwright-core";
import fs from "node:fs";

const [address, executablePath, recipe, pictures] = process.argv.slice(2);
const browser = await chromium.launch({ executablePath, args: ["--no-sandbox"] });
const seen = { errors: [], outside: [], pages: {} };

async function open(path, viewport) {
  const page = await browser.newPage({ viewport });
  page.on("console", (message) => message.type() === "error" && seen.errors.push(`${path}: ${message.text()}`));
  page.on("pageerror", (error) => seen.errors.push(`${path}: ${error}`));
  page.on("request", (request) => request.url().startsWith("http") && !request.url().startsWith(address) && seen.outside.push(request.url()));
  await page.goto(`${address}/${path}`);
  return page;
}

for (const [name, viewport] of [["desktop", { width: 1280, height: 800 }], ["phone", { width: 390, height: 844 }]]) {
  for (const path of ["index.html", "tutorial/memory.html", "reference.html", "zh/index.html"]) {
    const page = await open(path, viewport);
    const wide = await page.evaluate(() => document.documentElement.scrollWidth - innerWidth);
    seen.pages[`${path} ${name}`] = { title: await page.title(), wide };
    if (path.startsWith("tutorial")) await page.screenshot({ path: `${pictures}/${name}.png` });
    await page.close();
  }
}

const page = await open("playground/index.html", { width: 1280, height: 800 });
const done = async (text) => {
  await page.fill("#recipe", text);
  await page.waitForFunction(() => /^(fine|errors|failed)$/.test(document.getElementById("state").textContent) , null, { timeout: 150_000 });
  await page.waitForTimeout(1500);
  await page.waitForFunction(() => /^(fine|errors|failed)$/.test(document.getElementById("state").textContent), null, { timeout: 150_000 });
  return page.innerText("#state");
};
const text = fs.readFileSync(recipe, "utf8");
seen.fine = await done(text);
seen.tabs = await page.locator("#tabs button").allInnerTexts();
seen.files = {};
for (const tab of seen.tabs.filter((name) => /train.yaml$|run.sh$|^plan$/.test(name))) {
  await page.locator("#tabs button", { hasText: new RegExp(`^${tab.replace(/[.]/g, "\\.")}$`) }).click();
  seen.files[tab] = await page.innerText("#output");
}
await page.evaluate(() => (document.getElementById("recipe").scrollTop = 0));
await page.locator("#tabs button", { hasText: /sft.train.yaml$/ }).click();
await page.screenshot({ path: `${pictures}/playground.png` });
seen.broken = await done(text.replace("rank", "rnak"));
seen.message = await page.innerText("#output");
seen.marked = await page.locator("#gutter .marked").allInnerTexts();
console.log(JSON.stringify(seen));
await browser.close();
