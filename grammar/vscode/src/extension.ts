// The client of `ftc lsp`: it starts the server and gives its code lenses something to run. Everything else is the server's.
import * as vscode from "vscode";
import { LanguageClient, LanguageClientOptions } from "vscode-languageclient/node";

const COMMANDS = { "ftdsl.check": ["check"], "ftdsl.plan": ["plan"], "ftdsl.smoke": ["run", "--smoke"], "ftdsl.run": ["run"] };

let client: LanguageClient | undefined;

export async function activate(context: vscode.ExtensionContext): Promise<void> {
  for (const [name, verb] of Object.entries(COMMANDS)) {
    context.subscriptions.push(
      vscode.commands.registerCommand(name, (uri?: string | vscode.Uri, stage?: string) => inTerminal(verb, uri, stage)),
    );
  }
  context.subscriptions.push(
    vscode.commands.registerCommand("ftdsl.restart", restart),
    vscode.workspace.onDidChangeConfiguration((change) => {
      if (change.affectsConfiguration("ftdsl")) void restart();
    }),
  );
  await start();
}

export async function deactivate(): Promise<void> {
  await client?.stop();
  client = undefined;
}

async function restart(): Promise<void> {
  await deactivate();
  await start();
}

async function start(): Promise<void> {
  const settings = vscode.workspace.getConfiguration("ftdsl");
  const options: LanguageClientOptions = {
    documentSelector: [{ language: "ft" }, ...(settings.get<boolean>("yaml") ? [{ scheme: "file", language: "yaml" }] : [])],
    initializationOptions: { commands: ["ftdsl.check", "ftdsl.smoke", "ftdsl.run"] },
  };
  client = new LanguageClient("ftdsl", { command: ftc(), args: ["lsp"] }, options);
  try {
    await client.start();
  } catch (error) {
    client = undefined;
    const answer = await vscode.window.showErrorMessage(
      `ftdsl: the language server did not start (${ftc()} lsp). Install it with: pip install 'ftdsl[lsp]'`,
      "Set the path",
    );
    if (answer) await vscode.commands.executeCommand("workbench.action.openSettings", "ftdsl.path");
  }
}

function ftc(): string {
  const folder = vscode.workspace.workspaceFolders?.[0]?.uri.fsPath ?? "";
  const path = vscode.workspace.getConfiguration("ftdsl").get<string>("path") || "ftc";
  return path.replace("${workspaceFolder}", folder);
}

// The process is started with a list of arguments, by no shell: names of files and stages are never read as code.
async function inTerminal(verb: string[], uri?: string | vscode.Uri, stage?: string): Promise<void> {
  const target = typeof uri === "string" ? vscode.Uri.parse(uri) : uri ?? vscode.window.activeTextEditor?.document.uri;
  if (!target || !vscode.workspace.isTrusted) return;
  const document = vscode.workspace.textDocuments.find((open) => open.uri.toString() === target.toString());
  if (document?.isDirty && !(await document.save())) return;
  const stages = stage && verb[0] === "run" ? ["--only", stage] : [];
  const folder = vscode.workspace.getWorkspaceFolder(target);
  const task = new vscode.Task(
    { type: "ftdsl", verb: verb.join(" ") },
    folder ?? vscode.TaskScope.Global,
    `ftc ${verb.join(" ")}`,
    "ftdsl",
    new vscode.ProcessExecution(ftc(), [...verb, target.fsPath, ...stages], folder ? { cwd: folder.uri.fsPath } : {}),
  );
  task.presentationOptions = { panel: vscode.TaskPanelKind.Dedicated, clear: true };
  await vscode.tasks.executeTask(task);
}
