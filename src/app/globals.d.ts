/** Filled in by the build; see vite.config.ts. */
declare const __LORA_VERSION__: string;
