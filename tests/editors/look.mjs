// Opens a recipe in VS Code (in headless Chromium) and prints what a person sees, as JSON; with a picture.
// usage: node look.mjs ADDRESS CHROMIUM FOLDER FILE PICTURE
import { chromium } from "playwright-core";

const [address, executablePath, folder, file, picture] = process.argv.slice(2);
const browser = await chromium.launch({ executablePath, args: ["--no-sandbox"] });
const page = await browser.newPage({ viewport: { width: 1280, height: 800 } });
process.on("uncaughtException", async (error) => {
  await page.screenshot({ path: picture });
  console.error(error);
  process.exit(1);
});
await page.goto(`${address}/?folder=${encodeURIComponent(folder)}`);
await page.waitForSelector(".monaco-workbench", { timeout: 60_000 });
await page.waitForSelector(`.explorer-folders-view [aria-label^="${file}"]`, { timeout: 60_000 });
await page.locator(`.explorer-folders-view [aria-label^="${file}"]`).first().dblclick();
await page.waitForSelector(".view-lines .view-line", { timeout: 60_000 });
await page.keyboard.press("Control+Alt+B"); // the panel of the chat off
await page.waitForSelector(".squiggly-error", { timeout: 60_000, state: "attached" });
const seen = {};
seen.language = await page.locator("#status\\.editor\\.mode").innerText();
seen.colours = new Set(
  await page.locator(".view-lines .view-line span span").evaluateAll((spans) => spans.map((span) => span.className)),
).size;
await page.locator(".view-line", { hasText: "rank" }).locator("span", { hasText: /^rank$/ }).first().hover();
await page.waitForSelector(".monaco-hover:not(.hidden) .hover-contents", { timeout: 30_000 });
await page.waitForTimeout(800);
seen.hover = await page.locator(".monaco-hover:not(.hidden)").first().innerText();
await page.screenshot({ path: picture });
await page.keyboard.press("Escape");
await page.keyboard.press("Control+Shift+M");
await page.waitForSelector(".markers-panel .monaco-list-row", { timeout: 30_000 });
seen.problems = await page.locator(".markers-panel .monaco-list-row").allInnerTexts();
console.log(JSON.stringify(seen));
await browser.close();
