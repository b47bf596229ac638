// Finds out what the server is, and waits for it while it loads.

import { get, isReady } from "./api.js";

const AGAIN_MS = 1000;

// Waits until the server is ready and returns `{ model, context, props }`; each may be null, where a server does not say.
// `progress` gets what is going on. Throws only if the server wants an API key.
export async function connect(progress) {
  for (;;) {
    try {
      if (await isReady()) break;
      progress("The model is being loaded …");
    } catch (error) {
      progress(error.message);
    }
    await new Promise((resolve) => setTimeout(resolve, AGAIN_MS));
  }
  const models = await orNull(get("v1/models"));
  const props = await orNull(get("props"));
  const path = typeof props?.model_path === "string" ? props.model_path.split(/[\\/]/).at(-1) : null;
  const context = props?.default_generation_settings?.n_ctx;
  return { model: models?.data?.[0]?.id ?? path, context: typeof context === "number" ? context : null, props };
}

async function orNull(asked) {
  try {
    return await asked;
  } catch (error) {
    if (error.status === 401) throw error;
    return null;
  }
}
