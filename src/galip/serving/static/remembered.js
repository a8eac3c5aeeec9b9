// What stays on this device between visits, or, in `sessionStorage`, until the tab is closed. A browser that keeps
// nothing (private windows) is no error: even touching the storage may throw there, so it is named by a function.

const forGood = () => localStorage;

export function remembered(name, otherwise, storage = forGood) {
  try {
    return JSON.parse(storage().getItem(`galip.${name}`)) ?? otherwise;
  } catch {
    return otherwise;
  }
}

export function remember(name, value, storage = forGood) {
  try {
    if (value === null) storage().removeItem(`galip.${name}`);
    else storage().setItem(`galip.${name}`, JSON.stringify(value));
  } catch {
    // Full, or forbidden.
  }
}
