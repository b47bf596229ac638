// The dialog of settings, and the request that they and a conversation make.

const NUMBERS = ["temperature", "top_p", "min_p", "seed", "max_tokens"];

// Opens the dialog. `save` gets the system prompt and the settings; what is unknown stays undefined.
export function openSettings(dialog, system, settings, save) {
  const form = dialog.querySelector("form");
  form.elements.system.value = system;
  for (const name of NUMBERS) form.elements[name].value = settings[name] ?? "";
  form.elements.drafting.value = settings.drafting ?? "auto";
  dialog.returnValue = "cancel";
  dialog.addEventListener("close", () => {
    if (dialog.returnValue !== "save") return;
    const given = NUMBERS.map((name) => [name, form.elements[name].value]).filter(([, value]) => value !== "");
    const numbers = Object.fromEntries(given.map(([name, value]) => [name, Number(value)]));
    save(form.elements.system.value, { ...numbers, drafting: form.elements.drafting.value });
  }, { once: true });
  dialog.showModal();
}

// Shows what the server takes for fields that are left empty.
export function showDefaults(dialog, props) {
  const params = props?.default_generation_settings?.params ?? {};
  for (const name of NUMBERS) {
    const value = params[name];
    dialog.querySelector(`[name=${name}]`).placeholder = typeof value === "number" && value >= 0 ? String(+value.toFixed(3)) : "";
  }
}

// The body of a chat completion that answers `messages`.
export function requestBody(messages, system, settings, model) {
  const sampling = NUMBERS.filter((name) => typeof settings[name] === "number").map((name) => [name, settings[name]]);
  const said = messages.filter(({ content }) => content).map(({ role, content }) => ({ role, content }));
  return {
    ...(model ? { model } : {}),
    messages: system.trim() ? [{ role: "system", content: system }, ...said] : said,
    ...Object.fromEntries(sampling),
    stream: true,
    stream_options: { include_usage: true },
    dovetail: { rounds: true, drafting: settings.drafting ?? "auto" },
  };
}
