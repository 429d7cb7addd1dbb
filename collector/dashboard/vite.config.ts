import { defineConfig } from "vite";

// Names without hashes make small diffs of the committed dist/; the server's ETags decide what is fresh.
export default defineConfig({
  base: "./",
  build: {
    target: "es2022",
    modulePreload: false,
    assetsInlineLimit: 0,
    rollupOptions: {
      output: { entryFileNames: "app.js", chunkFileNames: "[name].js", assetFileNames: "app[extname]" },
    },
  },
  server: { proxy: { "/api": { target: "http://127.0.0.1:8600", ws: true } } },
});
