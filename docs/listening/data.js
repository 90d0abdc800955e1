// The data of the document: blocks by their names, each read when it is asked for.
"use strict";

const Data = (() => {
  const waiting = new Map(); // by the name of a block, the function that takes its contents

  // Contents of a block: from this document, or from the script beside it.
  function load(name) {
    const element = document.getElementById(`data-${name}`);
    if (element) return Promise.resolve(JSON.parse(element.textContent));
    return new Promise((resolve, reject) => {
      waiting.set(name, resolve);
      const script = document.createElement("script");
      script.src = `data-${name}.js`;
      script.onload = () => script.remove();
      script.onerror = () => reject(new Error(`${script.src} cannot be read`));
      document.head.append(script);
    });
  }

  // Called by the scripts that hold blocks.
  function receive(name, contents) {
    waiting.get(name)?.(contents);
    waiting.delete(name);
  }

  return { load, receive };
})();
