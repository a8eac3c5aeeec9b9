// Downloads whose progress can be shown, checked for size.

/**
 * @param {Map<string, {url: URL, bytes: number}>} files by name
 * @param {(received: number, total: number) => void} onProgress in bytes, over all files
 * @returns {Promise<Map<string, Uint8Array>>} their contents by name
 * @throws {Error} one of them cannot be had, or is not as large as it should be
 */
export async function download(files, onProgress) {
  const total = [...files.values()].reduce((sum, file) => sum + file.bytes, 0);
  let received = 0;
  onProgress(received, total);
  const contents = await Promise.all(
    [...files].map(([name, file]) =>
      fetchWhole(name, file, (bytes) => {
        received += bytes;
        onProgress(received, total);
      }),
    ),
  );
  return new Map([...files.keys()].map((name, i) => [name, contents[i]]));
}

/**
 * @param {URL} url
 * @param {RequestCache} cache
 * @returns {Promise<any>} the JSON there
 * @throws {Error} it cannot be had, or is no JSON
 */
export async function fetchJson(url, cache = "default") {
  const name = url.pathname.split("/").at(-1);
  const response = await answer(name, url, cache);
  try {
    return await response.json();
  } catch (error) {
    throw new Error(`${name}: what the server sent is no JSON. Upload all files of the page.`, { cause: error });
  }
}

async function fetchWhole(name, { url, bytes }, onBytes) {
  const response = await answer(name, url, "default");
  const content = new Uint8Array(bytes);
  let end = 0;
  try {
    for (const reader = response.body.getReader(); ; ) {
      const { done, value } = await reader.read();
      if (done) break;
      if (end + value.length <= bytes) content.set(value, end);
      end += value.length;
      onBytes(value.length);
    }
  } catch (error) {
    throw new Error(`${name}: the download broke off. Check the connection and try again.`, { cause: error });
  }
  if (end !== bytes) throw new Error(`${name}: it has ${end} bytes, not ${bytes}. Build the page again and upload all of it.`);
  return content;
}

async function answer(name, url, cache) {
  let response;
  try {
    response = await fetch(url, { cache });
  } catch (error) {
    throw new Error(`${name}: it cannot be fetched. Check the connection and try again.`, { cause: error });
  }
  if (!response.ok) throw new Error(`${name}: the server answered ${response.status}. Upload all files of the page.`);
  return response;
}
